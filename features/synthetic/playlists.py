"""The playlists of a synthetic world: which tracks, in which order, under which title.

A playlist has one scene it mostly draws from, the rest of that genre, a second genre, and now and then anything; tracks of one
artist come in runs. Its title names the genre or the mood, spelled the way people spell.

Input: a World, lengths, a random generator. Output: Playlists. Knows no file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from features.ragged import Ragged, offsets_of
from features.synthetic.world import GENRES, MANY_TRACKS, MOODS, Indices, Random, World

LONGEST = 250
_SHORTEST, _MEDIAN = 5, 49
_MOST_OWN = 4
"""Tracks that a playlist holds for their sake, at most: fewer than the shortest has."""
_NONE_OF_THEIR_OWN = pl.DataFrame(schema={"owner": pl.Int64, "track": pl.Int64})
_EMOJI = ("🔥", "🎧", "✨", "💃", "🌙", "❤️")


@dataclass(frozen=True)
class Playlists:
    """Some playlists: playlist `i` holds `tracks.row(i)` and has `titles[i]`."""

    tracks: Ragged[np.int64]
    titles: list[str]

    def __len__(self) -> int:
        return len(self.titles)


def draw_playlists(world: World, lengths: Indices, random: Random, own: pl.DataFrame = _NONE_OF_THEIR_OWN) -> Playlists:
    """Playlists of about these lengths (a small world runs out of different tracks), each without repeats; those that have tracks
    of their `own`, as tracks_of_their_own gives them, end with these."""
    drawn = lengths * 5 // 2 + 10
    owner = np.repeat(np.arange(len(lengths)), drawn)
    scene = world.scene[world.of_all.draw(np.zeros_like(lengths), random.random(len(lengths)))]
    tracks = _runs(world, _heads(world, scene, owner, random), owner, random)
    held = pl.DataFrame({"owner": owner, "track": tracks}).unique(maintain_order=True)
    room = pl.Series(lengths - np.bincount(own["owner"].to_numpy(), minlength=len(lengths)))
    held = held.filter(pl.int_range(pl.len()).over("owner") < room[held["owner"].to_numpy()])
    held = pl.concat([held, own]).unique(maintain_order=True).sort("owner", maintain_order=True)
    counts = np.bincount(held["owner"].to_numpy(), minlength=len(lengths))
    titles = [_title(GENRES[s // len(MOODS)], MOODS[s % len(MOODS)], random) for s in scene.tolist()]
    return Playlists(Ragged(held["track"].to_numpy(), offsets_of(counts)), titles)


def tracks_of_their_own(start: int, stop: int, playlists: int, tracks: int) -> pl.DataFrame:
    """(owner, track) for the playlists `start` to before `stop` of all: in a large world every track has a playlist that holds it
    whatever is drawn, as far as no playlist has more than _MOST_OWN of them."""
    if tracks < MANY_TRACKS:
        return _NONE_OF_THEIR_OWN
    bounds = np.arange(start, stop + 1) * tracks // playlists
    counts = np.minimum(np.diff(bounds), _MOST_OWN)
    owner = np.repeat(np.arange(stop - start), counts)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return pl.DataFrame({"owner": owner, "track": bounds[owner] + place})


def _heads(world: World, scene: Indices, owner: Indices, random: Random) -> Indices:
    """(num_draws,) tracks: half from the playlist's scene, then its genre, its second genre, anything."""
    second = random.integers(len(GENRES), size=len(scene))
    kind = random.choice(4, size=len(owner), p=[0.55, 0.25, 0.14, 0.06])
    tracks = np.empty(len(owner), np.int64)
    choices = [
        (world.of_scenes, scene),
        (world.of_genres, scene // len(MOODS)),
        (world.of_genres, second),
        (world.of_all, np.zeros_like(scene)),
    ]
    for i, (groups, of_playlist) in enumerate(choices):
        owners = of_playlist[owner[kind == i]]
        tracks[kind == i] = groups.draw(owners, random.random(len(owners)))
    return tracks


def _runs(world: World, heads: Indices, owner: Indices, random: Random) -> Indices:
    """A third of the tracks go on with the artist of the one before."""
    goes_on = (random.random(len(heads)) < 0.35) & (owner == np.append(-1, owner[:-1]))
    head = np.maximum.accumulate(np.where(goes_on, 0, np.arange(len(heads))))
    points = random.random(len(heads))
    tracks = heads.copy()
    tracks[goes_on] = world.of_artists.draw(world.artist[heads[head[goes_on]]], points[goes_on])
    return tracks


def draw_lengths(count: int, random: Random) -> Indices:
    """Log-normal around the median of the Million Playlist Dataset, within its bounds."""
    return np.clip(random.lognormal(np.log(_MEDIAN), 0.8, count), _SHORTEST, LONGEST).astype(np.int64)


def _title(genre: str, mood: str, random: Random) -> str:
    """What somebody may call it: genre, mood or both, badly spelled, in any case, with an emoji; sometimes nothing."""
    form, noise, place = int(random.integers(100)), random.random(), random.random()
    emoji = _EMOJI[int(random.integers(len(_EMOJI)))]
    chances = ((4, ""), (30, genre), (55, mood), (75, f"{genre} {mood}"), (90, f"my {genre} mix"), (100, "favorites"))
    words = next(words for below, words in chances if form < below)
    if noise < 0.08:
        cut = int(place * len(words))
        words = words[:cut] + words[cut + 1 :]
    shown = (words, words.title(), words.upper(), words)[form % 4]
    return f"{shown} {emoji}" if words and noise > 0.88 else shown
