"""The tracks of a synthetic world: their artists, scenes and popularity, and what a playlist's entry says of each.

Genres fall into scenes (a genre with a mood), scenes into artists, artists into tracks, and popularity has a long tail.

Input: a number of tracks and a seed. Output: a World, whose tracks can be drawn by popularity from a genre, a scene or an artist.
Knows no playlist.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

Indices = npt.NDArray[np.int64]
Random = np.random.Generator

GENRES = ("pop", "hip hop", "rock", "country", "electronic", "indie", "r&b", "latin", "metal", "jazz", "folk", "classical")
MOODS = ("chill", "workout", "party", "road trip", "study")
MANY_TRACKS = 100_000
_HEAD, _TAIL = 1 / 125, 2.2
"""From MANY_TRACKS on, the track of popularity rank r is drawn by the chance (r / tracks + _HEAD) ^ -_TAIL, and every track is in some
playlist: so, as in the Million Playlist Dataset, the most popular is in few of a hundred, and three quarters of the tracks are in five
or fewer. Zipf's law has hardly a rare track in a large world; a small one, which this would leave with too few to draw from, keeps it."""
_TRACKS_PER_ARTIST = 8
_SYLLABLES = tuple(a + b for a in "bdfgklmnrstvz" for b in ("a", "e", "i", "o"))
_WORDS = (
    *("midnight", "river", "golden", "summer", "empty", "highway", "silver", "heart", "burning", "city", "paper", "moon", "broken"),
    *("radio", "electric", "rain", "quiet", "storm", "velvet", "sky", "wild", "garden", "last", "train", "neon", "ocean", "hollow"),
    *("crown", "little", "fire", "lonely", "mountain", "blue", "letter"),
)


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


def _artists_of_tracks(tracks: int, artists: int, random: Random) -> Indices:
    """(num_tracks,) ascending: every artist has a track, and some have very many."""
    more = random.choice(artists, tracks - artists, p=_shuffled_zipf(artists, random))
    return np.sort(np.concatenate([np.arange(artists), more]))


def _popularity(rank: Indices) -> npt.NDArray[np.float64]:
    """(num_tracks,) how often each is drawn, by its rank from 0."""
    tracks = len(rank)
    return 1.0 / (rank + 4) if tracks < MANY_TRACKS else (rank / tracks + _HEAD) ** -_TAIL


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
