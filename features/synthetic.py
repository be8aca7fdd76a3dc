"""A world with a known answer, in the layout of the Million Playlist Dataset, for tests, the demo and scale benchmarks.

Genres fall into scenes (a genre with a mood), scenes into artists, artists into tracks, and popularity has a long tail. A
playlist has one scene it mostly draws from, the rest of that genre, a second genre, and now and then anything; tracks of one
artist come in runs. Its title names the genre or the mood, spelled the way people spell. Audio features agree with the
genre. So neighbours beat popularity, titles and content say something, and order carries signal.

Input: sizes and a seed. Output: `mpd.zip`, `audio_features.parquet`, `challenge.json`, `truth.parquet`, the same bytes for the
same arguments, whole or not at all. Slices are made in as many processes as there are cores, a few in memory at a time. The
world goes through the same door as real data: knows no vocabulary and no model.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from features.atomic import replaced_whole
from features.domain import SegueError
from features.processes import cores, done_by_processes
from features.progress import Progress, silent
from features.ragged import Ragged, offsets_of

Indices = npt.NDArray[np.int64]
Random = np.random.Generator

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
_MANY_TRACKS, _HEAD, _TAIL = 100_000, 1 / 125, 2.2
"""From so many tracks on, the one of popularity rank r is drawn by the chance (r / tracks + _HEAD) ^ -_TAIL, and every track is in some
playlist: so, as in the Million Playlist Dataset, the most popular is in few of a hundred, and three quarters of the tracks are in five
or fewer. Zipf's law has hardly a rare track in a large world; a small one, which this would leave with too few to draw from, keeps it."""
_MOST_OWN = 4
"""Tracks that a playlist holds for their sake, at most: fewer than the shortest has."""
_NONE_OF_THEIR_OWN = pl.DataFrame(schema={"owner": pl.Int64, "track": pl.Int64})
_HELD_OUT = 5
_EMOJI = ("🔥", "🎧", "✨", "💃", "🌙", "❤️")
_SYLLABLES = tuple(a + b for a in "bdfgklmnrstvz" for b in ("a", "e", "i", "o"))
_WORDS = (
    *("midnight", "river", "golden", "summer", "empty", "highway", "silver", "heart", "burning", "city", "paper", "moon", "broken"),
    *("radio", "electric", "rain", "quiet", "storm", "velvet", "sky", "wild", "garden", "last", "train", "neon", "ocean", "hollow"),
    *("crown", "little", "fire", "lonely", "mountain", "blue", "letter"),
)
_TRACKS_FILE = "tracks.arrow"
_FILES = frozenset(("mpd.zip", "audio_features.parquet", "challenge.json", "truth.parquet"))
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_SLICES_PER_PROCESS = 4
"""Fewer are made sooner than another process has started."""


@dataclass(frozen=True)
class World:
    """Tracks in the order genre, scene, artist: so a genre, a scene and an artist are each a range of tracks."""

    tracks: pl.DataFrame
    """`scene`, `artist`, `weight` (the chance of being drawn), `uri`, `artist_name`, and `described`: the JSON of the
    track's playlist entry, without its place."""

    @classmethod
    def of(cls, tracks: int, seed: int) -> World:
        random = np.random.default_rng([seed, 0])
        artists = max(len(GENRES) * len(MOODS), tracks // _TRACKS_PER_ARTIST)
        artist = _artists_of_tracks(tracks, artists, random)
        weight = random.permutation(_popularity(np.arange(tracks)))
        names = pl.Series([_artist_name(number) for number in random.permutation(artists).tolist()])
        table = pl.DataFrame(
            {
                "scene": artist * len(GENRES) * len(MOODS) // artists,
                "artist": artist,
                "weight": weight,
                "uri": _uris(random.permutation(tracks), seed),
                "artist_name": names.gather(artist),
            }
        )
        return cls(table.with_columns(_descriptions(artist, random)))

    def __len__(self) -> int:
        return self.tracks.height

    @cached_property
    def scene(self) -> Indices:
        """(num_tracks,)"""
        return self.tracks["scene"].to_numpy()

    @cached_property
    def artist(self) -> Indices:
        """(num_tracks,)"""
        return self.tracks["artist"].to_numpy()

    @cached_property
    def weight(self) -> npt.NDArray[np.float64]:
        """(num_tracks,)"""
        return self.tracks["weight"].to_numpy()

    @cached_property
    def of_all(self) -> Groups:
        return Groups.of(np.zeros_like(self.scene), self.cumulated)

    @cached_property
    def of_genres(self) -> Groups:
        return Groups.of(self.scene // len(MOODS), self.cumulated)

    @cached_property
    def of_scenes(self) -> Groups:
        return Groups.of(self.scene, self.cumulated)

    @cached_property
    def of_artists(self) -> Groups:
        return Groups.of(self.artist, self.cumulated)

    def described(self, tracks: Indices) -> list[str]:
        """Per track the JSON of its playlist entry, without its place."""
        texts: list[str] = self.tracks["described"].gather(tracks).to_list()
        return texts

    @cached_property
    def cumulated(self) -> npt.NDArray[np.float64]:
        """(num_tracks + 1,) of `weight`."""
        return np.append(0.0, np.cumsum(self.weight))


@dataclass(frozen=True)
class Groups:
    """Tracks by owner (genre, scene or artist): those of owner `i` have the cumulated weights `bounds[i]` to `bounds[i + 1]`."""

    bounds: npt.NDArray[np.float64]
    """(num_owners + 1,)"""
    cumulated: npt.NDArray[np.float64]
    """(num_tracks + 1,)"""

    @classmethod
    def of(cls, owner: Indices, cumulated: npt.NDArray[np.float64]) -> Groups:
        """`owner` (num_tracks,), sorted."""
        return cls(cumulated[np.searchsorted(owner, np.arange(owner[-1] + 2))], cumulated)

    def draw(self, owners: Indices, points: npt.NDArray[np.float64]) -> Indices:
        """For each of `owners` one of its tracks, by popularity: the one at this point (0…1) of their weights."""
        low, high = self.bounds[owners], self.bounds[owners + 1]
        point = low + points * (high - low)
        return np.clip(np.searchsorted(self.cumulated, point, side="right") - 1, 0, len(self.cumulated) - 2)


@dataclass(frozen=True)
class Playlists:
    """Some playlists: playlist `i` holds `tracks.row(i)` and has `titles[i]`."""

    tracks: Ragged[np.int64]
    titles: list[str]

    def __len__(self) -> int:
        return len(self.titles)


def write_world(
    folder: Path, playlists: int = 3_000, tracks: int = 6_000, seed: int = 0, progress: Progress = silent, processes: int | None = None
) -> None:
    """Writes the four files as `folder`; a tenth as many challenge playlists, at least 50 and at most 10,000, come on top.

    Replaces a world that is there, and nothing else. The slices are made by `processes` (by default one per core, fewer for few
    slices), which change no byte. SegueError below 1 playlist or 500 tracks, where the shapes of the challenge no longer fit.
    """
    if playlists < 1 or tracks < 500:
        raise SegueError(f"synthetic world: expected at least 1 playlist and 500 tracks, found {playlists} and {tracks}")
    _refuse_to_replace_other_than_a_world(folder)
    with replaced_whole(folder) as made:
        World.of(tracks, seed).tracks.write_ipc(made / _TRACKS_FILE)
        slices = _Slices(made / _TRACKS_FILE, playlists, seed)
        _audio_features(slices.world, seed).write_parquet(made / "audio_features.parquet")
        _write_challenge(made, slices.world, playlists, min(max(playlists // 10, 5 * len(CATEGORIES)), 10_000), seed)
        _write_zip(made / "mpd.zip", slices, playlists, progress, processes)
        (made / _TRACKS_FILE).unlink()


def _refuse_to_replace_other_than_a_world(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= _FILES):
        raise SegueError(f"{folder}: expected a synthetic world to replace, or nothing, found something else. Choose another folder")


@dataclass(frozen=True)
class _Slices:
    """What makes slices, in any process: the tracks are mapped into memory, so that all processes share them."""

    tracks: Path
    playlists: int
    seed: int

    @cached_property
    def world(self) -> World:
        return World(pl.DataFrame(pa.ipc.open_file(pa.memory_map(str(self.tracks))).read_all()))

    def __call__(self, start: int) -> bytes:
        return _slice(self.world, start, self.playlists, self.seed).encode()


def _write_zip(path: Path, slices: _Slices, playlists: int, progress: Progress, processes: int | None) -> None:
    starts = range(0, playlists, PLAYLISTS_PER_SLICE)
    with (
        done_by_processes(slices, starts, processes or min(cores(), len(starts) // _SLICES_PER_PROCESS)) as texts,
        zipfile.ZipFile(path, "w") as archive,
    ):
        for start, text in zip(starts, texts, strict=True):
            stop = min(start + PLAYLISTS_PER_SLICE, playlists)
            member = zipfile.ZipInfo(f"data/mpd.slice.{start}-{stop - 1}.json", _ZIP_TIME)
            archive.writestr(member, text, zipfile.ZIP_DEFLATED, compresslevel=1)
            progress("writing playlists", stop / playlists)


# --- playlists ------------------------------------------------------------------------------------------------------


def _playlists(world: World, lengths: Indices, random: Random, own: pl.DataFrame = _NONE_OF_THEIR_OWN) -> Playlists:
    """Playlists of about these lengths (a small world runs out of different tracks), each without repeats; those that have tracks
    of their `own`, as _of_their_own gives them, end with these."""
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


def _of_their_own(start: int, stop: int, playlists: int, tracks: int) -> pl.DataFrame:
    """(owner, track) for the playlists `start` to before `stop` of all: in a large world every track has a playlist that holds it
    whatever is drawn, as far as no playlist has more than _MOST_OWN of them."""
    if tracks < _MANY_TRACKS:
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


def _slice(world: World, start: int, playlists: int, seed: int) -> str:
    """Of the playlists from `start` on, as many as a slice has, out of so many in all."""
    stop = min(start + PLAYLISTS_PER_SLICE, playlists)
    random = np.random.default_rng([seed, 1, start])
    made = _playlists(world, _lengths(stop - start, random), random, _of_their_own(start, stop, playlists, len(world)))
    followers = random.zipf(2.2, len(made)).clip(1, 50_000).tolist()
    described, ends = world.described(made.tracks.values), made.tracks.offsets.tolist()
    rows = (_playlist(start + i, made.titles[i], followers[i], described[ends[i] : ends[i + 1]]) for i in range(len(made)))
    return f'{{"info":{{"slice":"{start}-{stop - 1}","version":"v1"}},"playlists":[\n{_lines(rows)}\n]}}\n'


def _playlist(pid: int, title: str, followers: int, described: list[str]) -> str:
    said = f'"name":{json.dumps(title)},"pid":{pid},"num_followers":{followers},"num_tracks":{len(described)}'
    return f'{{{said},"tracks":{_entries(enumerate(described))}}}'


def _entries(placed: Iterable[tuple[int, str]]) -> str:
    """The JSON of pairs of place and description."""
    return "[" + ",".join([f'{{"pos":{place},{described}' for place, described in placed]) + "]"


def _lines(rows: Iterator[str]) -> str:
    return ",\n".join(rows)


def _write_challenge(folder: Path, world: World, first_pid: int, count: int, seed: int) -> None:
    """Playlist i of the challenge is of category i mod 10, and of the pids after those of the zip."""
    random = np.random.default_rng([seed, 2])
    visible = np.array([shape.visible for shape in CATEGORIES])[np.arange(count) % len(CATEGORIES)]
    made = _playlists(world, np.maximum(_lengths(count, random), np.minimum(visible + _HELD_OUT, _LONGEST)), random)
    asked, hidden = [], []
    for i in range(count):
        tracks, category = made.tracks.row(i), i % len(CATEGORIES)
        places = _shown(len(tracks), category, random)
        hidden.append(np.delete(tracks, places))
        placed = zip(places.tolist(), world.described(tracks[places]), strict=True)
        asked.append(_question(first_pid + i, made.titles[i] or "mix", category, list(placed), len(hidden[-1])))
    text = f'{{"name":"synthetic","version":"v1","playlists":[\n{_lines(iter(asked))}\n]}}\n'
    (folder / "challenge.json").write_text(text, encoding="utf-8")
    _truth(world, first_pid, hidden).write_parquet(folder / "truth.parquet")


def _truth(world: World, first_pid: int, hidden: list[Indices]) -> pl.DataFrame:
    """One row per hidden track of each challenge playlist."""
    of = np.repeat(np.arange(len(hidden)), [len(tracks) for tracks in hidden])
    named = world.tracks.select("uri", "artist_name")[np.concatenate(hidden)]
    columns = {"pid": first_pid + of, "category": of % len(CATEGORIES), "track_uri": named["uri"], "artist_name": named["artist_name"]}
    return pl.DataFrame(columns)


def _shown(length: int, category: int, random: Random) -> Indices:
    """The places that are visible, in order; a short playlist shows less, so that something is hidden."""
    count = min(CATEGORIES[category].visible, max(length - _HELD_OUT, length // 2))
    return np.sort(random.permutation(length)[:count]) if CATEGORIES[category].at_random else np.arange(count)


def _question(pid: int, title: str, category: int, placed: list[tuple[int, str]], hidden: int) -> str:
    name = f'"name":{json.dumps(title)},' if CATEGORIES[category].titled else ""
    counts = f'"num_tracks":{len(placed) + hidden},"num_samples":{len(placed)},"num_holdouts":{hidden}'
    return f'{{{name}"pid":{pid},{counts},"tracks":{_entries(placed)}}}'


def _audio_features(world: World, seed: int) -> pl.DataFrame:
    """Two thirds of the tracks, in any order; a genre has its sound, an artist varies it, a track varies that."""
    random = np.random.default_rng([seed, 3])
    tracks = np.flatnonzero(random.random(len(world)) < 0.65)
    names = ("danceability", "energy", "speechiness", "acousticness", "instrumentalness", "liveness", "valence")
    of_genre = random.random((len(GENRES), len(names)))
    of_artist = random.normal(0, 0.08, (world.artist[-1] + 1, len(names)))
    of_track = random.normal(0, 0.08, (len(world), len(names)))
    genre = world.scene[tracks] // len(MOODS)
    values = np.clip(of_genre[genre] + of_artist[world.artist[tracks]] + of_track[tracks], 0, 1)
    energy = values[:, names.index("energy")]
    rank = np.argsort(np.argsort(-world.weight))[tracks]
    table = pl.DataFrame({"track_uri": world.tracks["uri"].gather(tracks)}).with_columns(
        *(pl.Series(name, values[:, i], pl.Float32) for i, name in enumerate(names)),
        pl.Series("loudness", -22 + 18 * energy + random.normal(0, 1, len(tracks)), pl.Float32),
        pl.Series("tempo", 80 + 70 * energy + random.normal(0, 15, len(tracks)), pl.Float32),
        pl.Series("key", random.integers(12, size=len(tracks)), pl.Float32),
        pl.Series("mode", random.random(len(tracks)) < 0.6, pl.Float32, strict=False),
        pl.Series("time_signature", random.choice([3, 4, 5], len(tracks), p=[0.08, 0.9, 0.02]), pl.Float32),
        pl.Series("genre", GENRES).gather(genre),
        pl.Series("popularity", np.round(100 * (1 - rank / len(world))), pl.Float32),
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


def _popularity(rank: Indices) -> npt.NDArray[np.float64]:
    """(num_tracks,) how often each is drawn, by its rank from 0."""
    tracks = len(rank)
    return 1.0 / (rank + 4) if tracks < _MANY_TRACKS else (rank / tracks + _HEAD) ** -_TAIL


def _shuffled_zipf(count: int, random: Random) -> npt.NDArray[np.float64]:
    weight = random.permutation(1.0 / np.arange(5, count + 5) ** 0.7)
    shares: npt.NDArray[np.float64] = weight / weight.sum()
    return shares


def _descriptions(artist: Indices, random: Random) -> pl.Expr:
    """`described`, of the columns `uri`, `artist` and `artist_name`."""
    word = pl.Series(_WORDS).str.to_titlecase()
    words = random.integers(len(_WORDS), size=(len(artist), 3))
    duration = random.normal(225_000, 45_000, len(artist)).clip(60_000, 900_000).astype(int)
    album = (np.arange(len(artist)) - np.searchsorted(artist, artist)) // 6
    third = pl.when(pl.Series(words[:, 0] % 3 == 0)).then(" " + word.gather(words[:, 2])).otherwise(pl.lit(""))
    return pl.format(
        '"artist_name":"{}","track_uri":"{}","artist_uri":"spotify:artist:{}","track_name":"{} {}{}",'
        '"album_uri":"spotify:album:{}-{}","duration_ms":{},"album_name":"{} {}"{}',
        *(pl.col("artist_name"), pl.col("uri"), pl.col("artist"), word.gather(words[:, 0]), word.gather(words[:, 1]), third),
        *(pl.col("artist"), pl.Series(album), pl.Series(duration)),
        *(word.gather((artist + 7 * album) % len(_WORDS)), word.gather((3 * artist + album) % len(_WORDS)), pl.lit("}")),
    ).alias("described")


def _artist_name(number: int) -> str:
    """Different for different numbers, up to 7 million."""
    number = number * 1_618_033 % len(_SYLLABLES) ** 4
    digits = [number // len(_SYLLABLES) ** place % len(_SYLLABLES) for place in range(4)]
    first, last = ("".join(_SYLLABLES[digit] for digit in half) for half in (digits[:2], digits[2:]))
    return f"{first.title()} {last.title()}"


def _uris(numbers: Indices, seed: int) -> pl.Series:
    """With 22 letters and digits, as Spotify's have."""
    return f"spotify:track:synth{seed % 10_000:04}" + pl.Series(numbers).cast(pl.String).str.zfill(13)
