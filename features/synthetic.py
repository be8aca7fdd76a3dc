"""A world with a known answer, in the layout of the Million Playlist Dataset, for tests, the demo and scale benchmarks.

Genres fall into scenes (a genre with a mood), scenes into artists, artists into tracks, and popularity follows Zipf's law. A
playlist has one scene it mostly draws from, the rest of that genre, a second genre, and now and then anything; tracks of one
artist come in runs. Its title names the genre or the mood, spelled the way people spell. Audio features agree with the
genre. So neighbours beat popularity, titles and content say something, and order carries signal.

Input: sizes and a seed. Output: `mpd.zip`, `audio_features.parquet`, `challenge.json`, `truth.parquet`, the same bytes for the
same arguments, one slice in memory at a time. It goes through the same door as real data: knows no vocabulary and no model.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from features.dataset import os_errors
from features.domain import SegueError

Indices = npt.NDArray[np.int64]
Random = np.random.Generator
Progress = Callable[[str, float], None]

GENRES = ("pop", "hip hop", "rock", "country", "electronic", "indie", "r&b", "latin", "metal", "jazz", "folk", "classical")
MOODS = ("chill", "workout", "party", "road trip", "study")


class Shape(NamedTuple):
    """What a request shows of its playlist."""

    visible: int
    titled: bool
    at_random: bool


CATEGORIES = (
    *(Shape(0, True, False), Shape(1, True, False), Shape(5, True, False), Shape(5, False, False), Shape(10, True, False)),
    *(Shape(10, False, False), Shape(25, True, False), Shape(25, True, True), Shape(100, True, False), Shape(100, True, True)),
)
"""The request shapes of the RecSys Challenge 2018, by category."""

PLAYLISTS_PER_SLICE = 1_000
_SHORTEST, _LONGEST, _MEDIAN = 5, 250, 49
_TRACKS_PER_ARTIST = 8
_HELD_OUT = 5
_EMOJI = ("🔥", "🎧", "✨", "💃", "🌙", "❤️")
_SYLLABLES = tuple(a + b for a in "bdfgklmnrstvz" for b in ("a", "e", "i", "o"))
_WORDS = (
    *("midnight", "river", "golden", "summer", "empty", "highway", "silver", "heart", "burning", "city", "paper", "moon", "broken"),
    *("radio", "electric", "rain", "quiet", "storm", "velvet", "sky", "wild", "garden", "last", "train", "neon", "ocean", "hollow"),
    *("crown", "little", "fire", "lonely", "mountain", "blue", "letter"),
)
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class World:
    """Tracks in the order genre, scene, artist: so a genre, a scene and an artist are each a range of tracks."""

    genre: Indices
    """(num_tracks,)"""
    scene: Indices
    artist: Indices
    album: Indices
    """(num_tracks,) within the artist."""
    weight: npt.NDArray[np.float64]
    """(num_tracks,) Zipf: the chance of being drawn."""
    cumulated: npt.NDArray[np.float64]
    """(num_tracks + 1,) of `weight`."""
    described: list[str]
    """Per track the JSON of its playlist entry, without its place."""
    uris: list[str]
    artist_names: list[str]
    """Per artist."""

    @classmethod
    def of(cls, tracks: int, seed: int) -> World:
        random = np.random.default_rng([seed, 0])
        artists = max(len(GENRES) * len(MOODS), tracks // _TRACKS_PER_ARTIST)
        artist = _artists_of_tracks(tracks, artists, random)
        scene = artist * len(GENRES) * len(MOODS) // artists
        weight = random.permutation(1.0 / np.arange(4, tracks + 4))
        first = np.searchsorted(artist, artist)
        album = (np.arange(tracks) - first) // 6
        names = [_artist_name(number) for number in random.permutation(artists)]
        uris = [f"spotify:track:{_code(seed, i)}" for i in random.permutation(tracks)]
        described = _descriptions(uris, artist, album, names, random)
        genre = scene // len(MOODS)
        return cls(genre, scene, artist, album, weight, np.append(0.0, np.cumsum(weight)), described, uris, names)

    def draw(self, owner: Indices, wanted: Indices, random: Random) -> Indices:
        """For each wanted value of `owner` (genre, scene or artist; sorted) one of its tracks, by popularity."""
        low, high = self.cumulated[np.searchsorted(owner, wanted)], self.cumulated[np.searchsorted(owner, wanted, side="right")]
        point = low + random.random(len(wanted)) * (high - low)
        return np.clip(np.searchsorted(self.cumulated, point, side="right") - 1, 0, len(owner) - 1)


@dataclass(frozen=True)
class Playlists:
    """Some playlists: playlist `i` holds `tracks[offsets[i]:offsets[i + 1]]` and has `titles[i]`."""

    tracks: Indices
    offsets: Indices
    titles: list[str]

    def __len__(self) -> int:
        return len(self.titles)

    def tracks_of(self, i: int) -> list[int]:
        held: list[int] = self.tracks[self.offsets[i] : self.offsets[i + 1]].tolist()
        return held


def silent(phase: str, done: float) -> None:
    """A Progress that shows nothing."""


def write_world(folder: Path, playlists: int = 3_000, tracks: int = 6_000, seed: int = 0, progress: Progress = silent) -> None:
    """Writes the four files into `folder`; a tenth as many challenge playlists, at least 50 and at most 10,000, come on top.

    SegueError below 1 playlist or 500 tracks, where the shapes of the challenge no longer fit.
    """
    if playlists < 1 or tracks < 500:
        raise SegueError(f"synthetic world: expected at least 1 playlist and 500 tracks, found {playlists} and {tracks}")
    folder.mkdir(parents=True, exist_ok=True)
    world = World.of(tracks, seed)
    with os_errors(folder):
        _audio_features(world, seed).write_parquet(folder / "audio_features.parquet")
        _write_challenge(folder, world, playlists, min(max(playlists // 10, 5 * len(CATEGORIES)), 10_000), seed)
    with zipfile.ZipFile(folder / "mpd.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for start in range(0, playlists, PLAYLISTS_PER_SLICE):
            stop = min(start + PLAYLISTS_PER_SLICE, playlists)
            member = zipfile.ZipInfo(f"data/mpd.slice.{start}-{stop - 1}.json", _ZIP_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, _slice(world, start, stop, seed))
            progress("writing playlists", stop / playlists)


# --- playlists ------------------------------------------------------------------------------------------------------


def _playlists(world: World, lengths: Indices, random: Random) -> Playlists:
    """Playlists of about these lengths (a small world runs out of different tracks), each without repeats."""
    drawn = lengths * 5 // 2 + 10
    owner = np.repeat(np.arange(len(lengths)), drawn)
    scene = world.scene[world.draw(np.zeros_like(world.scene), np.zeros_like(lengths), random)]
    tracks = _runs(world, _heads(world, scene, owner, random), owner, random)
    held = pl.DataFrame({"owner": owner, "track": tracks}).unique(maintain_order=True)
    held = held.filter(pl.int_range(pl.len()).over("owner") < pl.Series(lengths)[held["owner"].to_numpy()])
    counts = np.bincount(held["owner"].to_numpy(), minlength=len(lengths))
    titles = [_title(GENRES[s // len(MOODS)], MOODS[s % len(MOODS)], random) for s in scene.tolist()]
    return Playlists(held["track"].to_numpy(), np.append(0, np.cumsum(counts)), titles)


def _heads(world: World, scene: Indices, owner: Indices, random: Random) -> Indices:
    """(num_draws,) tracks: half from the playlist's scene, then its genre, its second genre, anything."""
    second = random.integers(len(GENRES), size=len(scene))
    kind = random.choice(4, size=len(owner), p=[0.55, 0.25, 0.14, 0.06])
    tracks = np.empty(len(owner), np.int64)
    everything = np.zeros_like(world.genre)
    choices = [(world.scene, scene), (world.genre, scene // len(MOODS)), (world.genre, second), (everything, np.zeros_like(scene))]
    for i, (group, of_playlist) in enumerate(choices):
        tracks[kind == i] = world.draw(group, of_playlist[owner[kind == i]], random)
    return tracks


def _runs(world: World, heads: Indices, owner: Indices, random: Random) -> Indices:
    """A third of the tracks go on with the artist of the one before."""
    goes_on = (random.random(len(heads)) < 0.35) & (owner == np.append(-1, owner[:-1]))
    head = np.maximum.accumulate(np.where(goes_on, 0, np.arange(len(heads))))
    return np.where(goes_on, world.draw(world.artist, world.artist[heads[head]], random), heads)


def _lengths(count: int, random: Random) -> Indices:
    """Log-normal around the median of the Million Playlist Dataset, within its bounds."""
    return np.clip(random.lognormal(np.log(_MEDIAN), 0.8, count), _SHORTEST, _LONGEST).astype(np.int64)


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


# --- the files ------------------------------------------------------------------------------------------------------


def _slice(world: World, start: int, stop: int, seed: int) -> str:
    random = np.random.default_rng([seed, 1, start])
    made = _playlists(world, _lengths(stop - start, random), random)
    followers = random.zipf(2.2, len(made)).clip(1, 50_000).tolist()
    rows = (_playlist(world, start + i, made, i, f'"num_followers":{followers[i]},') for i in range(len(made)))
    return f'{{"info":{{"slice":"{start}-{stop - 1}","version":"v1"}},"playlists":[\n{_lines(rows)}\n]}}\n'


def _playlist(world: World, pid: int, made: Playlists, i: int, more: str) -> str:
    tracks = list(enumerate(made.tracks_of(i)))
    said = f'"name":{json.dumps(made.titles[i])},"pid":{pid},{more}"num_tracks":{len(tracks)}'
    return f'{{{said},"tracks":{_entries(world, tracks)}}}'


def _entries(world: World, placed: list[tuple[int, int]]) -> str:
    """The JSON of (place, track) pairs."""
    return "[" + ",".join([f'{{"pos":{place},{world.described[track]}' for place, track in placed]) + "]"


def _lines(rows: Iterator[str]) -> str:
    return ",\n".join(rows)


def _write_challenge(folder: Path, world: World, first_pid: int, count: int, seed: int) -> None:
    """Playlist i of the challenge is of category i mod 10, and of the pids after those of the zip."""
    random = np.random.default_rng([seed, 2])
    visible = np.array([shape.visible for shape in CATEGORIES])[np.arange(count) % len(CATEGORIES)]
    made = _playlists(world, np.maximum(_lengths(count, random), np.minimum(visible + _HELD_OUT, _LONGEST)), random)
    asked, truth = [], []
    for i in range(count):
        seeds, hidden = _split(made.tracks_of(i), i % len(CATEGORIES), random)
        asked.append(_question(world, first_pid + i, made.titles[i] or "mix", i % len(CATEGORIES), seeds, len(hidden)))
        truth += [(first_pid + i, i % len(CATEGORIES), world.uris[track], world.artist_names[world.artist[track]]) for _, track in hidden]
    text = f'{{"name":"synthetic","version":"v1","playlists":[\n{_lines(iter(asked))}\n]}}\n'
    (folder / "challenge.json").write_text(text, encoding="utf-8")
    columns = {"pid": pl.Int64, "category": pl.Int64, "track_uri": pl.String, "artist_name": pl.String}
    pl.DataFrame(truth, schema=columns, orient="row").write_parquet(folder / "truth.parquet")


def _split(tracks: list[int], category: int, random: Random) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(visible, hidden) pairs of place and track; a short playlist shows less, so that something is hidden."""
    count = min(CATEGORIES[category].visible, max(len(tracks) - _HELD_OUT, len(tracks) // 2))
    places = np.sort(random.permutation(len(tracks))[:count]) if CATEGORIES[category].at_random else np.arange(count)
    chosen = set(places.tolist())
    placed = list(enumerate(tracks))
    return [pair for pair in placed if pair[0] in chosen], [pair for pair in placed if pair[0] not in chosen]


def _question(world: World, pid: int, title: str, category: int, seeds: list[tuple[int, int]], hidden: int) -> str:
    name = f'"name":{json.dumps(title)},' if CATEGORIES[category].titled else ""
    counts = f'"num_tracks":{len(seeds) + hidden},"num_samples":{len(seeds)},"num_holdouts":{hidden}'
    return f'{{{name}"pid":{pid},{counts},"tracks":{_entries(world, seeds)}}}'


def _audio_features(world: World, seed: int) -> pl.DataFrame:
    """Two thirds of the tracks, in any order; a genre has its sound, an artist varies it, a track varies that."""
    random = np.random.default_rng([seed, 3])
    tracks = np.flatnonzero(random.random(len(world.uris)) < 0.65)
    names = ("danceability", "energy", "speechiness", "acousticness", "instrumentalness", "liveness", "valence")
    of_genre = random.random((len(GENRES), len(names)))
    of_artist = random.normal(0, 0.08, (len(world.artist_names), len(names)))
    of_track = random.normal(0, 0.08, (len(world.uris), len(names)))
    values = np.clip(of_genre[world.genre] + of_artist[world.artist] + of_track, 0, 1)[tracks]
    energy = values[:, names.index("energy")]
    rank = np.argsort(np.argsort(-world.weight))[tracks]
    table = pl.DataFrame({"track_uri": [world.uris[i] for i in tracks]}).with_columns(
        *(pl.Series(name, values[:, i], pl.Float32) for i, name in enumerate(names)),
        pl.Series("loudness", -22 + 18 * energy + random.normal(0, 1, len(tracks)), pl.Float32),
        pl.Series("tempo", 80 + 70 * energy + random.normal(0, 15, len(tracks)), pl.Float32),
        pl.Series("key", random.integers(12, size=len(tracks)), pl.Float32),
        pl.Series("mode", random.random(len(tracks)) < 0.6, pl.Float32, strict=False),
        pl.Series("time_signature", random.choice([3, 4, 5], len(tracks), p=[0.08, 0.9, 0.02]), pl.Float32),
        pl.Series("genre", [GENRES[i] for i in world.genre[tracks]]),
        pl.Series("popularity", np.round(100 * (1 - rank / len(world.uris))), pl.Float32),
        pl.Series("year", 2017 - random.geometric(0.08, len(tracks)).clip(1, 60), pl.Float32),
    )
    gaps = (("genre", 0.2), ("popularity", 0.3), ("tempo", 0.02))
    return table.with_columns(_with_gaps(name, share, random, len(tracks)) for name, share in gaps)


def _with_gaps(name: str, share: float, random: Random, rows: int) -> pl.Expr:
    return pl.when(pl.Series(random.random(rows) >= share)).then(pl.col(name)).alias(name)


# --- names ----------------------------------------------------------------------------------------------------------


def _artists_of_tracks(tracks: int, artists: int, random: Random) -> Indices:
    """(num_tracks,) ascending: every artist has a track, and some have very many."""
    more = random.choice(artists, tracks - artists, p=_shuffled_zipf(artists, random))
    return np.sort(np.concatenate([np.arange(artists), more]))


def _shuffled_zipf(count: int, random: Random) -> npt.NDArray[np.float64]:
    weight = random.permutation(1.0 / np.arange(5, count + 5) ** 0.7)
    shares: npt.NDArray[np.float64] = weight / weight.sum()
    return shares


def _descriptions(uris: list[str], artist: Indices, album: Indices, names: list[str], random: Random) -> list[str]:
    words = random.integers(len(_WORDS), size=(len(uris), 3)).tolist()
    duration = random.normal(225_000, 45_000, len(uris)).clip(60_000, 900_000).astype(int).tolist()
    rows = zip(uris, artist.tolist(), album.tolist(), words, duration, strict=True)
    return [_description(uri, owner, names[owner], disc, chosen, length) for uri, owner, disc, chosen, length in rows]


def _description(uri: str, artist: int, name: str, album: int, words: list[int], duration: int) -> str:
    title = " ".join(_WORDS[word] for word in (words if words[0] % 3 == 0 else words[:2])).title()
    disc = f"{_WORDS[(artist + 7 * album) % len(_WORDS)]} {_WORDS[(3 * artist + album) % len(_WORDS)]}".title()
    said = f'"artist_name":"{name}","track_uri":"{uri}","artist_uri":"spotify:artist:{artist}","track_name":"{title}",'
    return said + f'"album_uri":"spotify:album:{artist}-{album}","duration_ms":{duration},"album_name":"{disc}"}}'


def _artist_name(number: int) -> str:
    """Different for different numbers, up to 7 million."""
    number = number * 1_618_033 % len(_SYLLABLES) ** 4
    digits = [number // len(_SYLLABLES) ** place % len(_SYLLABLES) for place in range(4)]
    first, last = ("".join(_SYLLABLES[digit] for digit in half) for half in (digits[:2], digits[2:]))
    return f"{first.title()} {last.title()}"


def _code(seed: int, number: int) -> str:
    """22 letters and digits, as Spotify's ids have."""
    return f"synth{seed % 10_000:04}{number:013}"
