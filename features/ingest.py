"""Sources -> one dataset directory, in two passes and in bounded memory.

The first pass reads every source once, in as many processes as there are cores: who holds what goes to parts on disk with the
tracks' ids, what is said of the tracks is tallied, one row per track. The tally is then sorted into the vocabulary, and the
second pass replaces ids by indices, part by part. So memory holds one part, a few pieces on their way, the playlists' titles and
one row per track, however many entries there are.

Input: paths. Output: the directory of `features.dataset`, whole or not at all, and an IngestSummary.
Knows no model, and no formats: those are `features.readers`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.atomic import is_free, replaced_whole
from features.dataset import CATALOG_FILE, PLAYLISTS_FILE, VOCABULARY_FILE
from features.domain import SegueError
from features.manifest import INTERACTIONS_FOLDER, MANIFEST_FILE, DatasetManifest, file_facts, fingerprint_of, is_dataset
from features.processes import cores, done_by_processes
from features.progress import Progress, silent
from features.readers import KNOWN_FROM_PLAYLISTS, Piece, pieces, read_tracks
from features.schema import (
    CATALOG,
    INTERACTIONS,
    IS_CHALLENGE,
    PLAYLIST_ID,
    PLAYLIST_INDEX,
    PLAYLISTS,
    PLAYS,
    POSITION,
    TRACK_ID,
    TRACK_INDEX,
    conform,
)
from features.vocabulary import Vocabulary, bare

_KEY = "key_of_track"
"""The id without Spotify's prefix: two forms of one id are one track, shown in the form that was met first."""
_COUNT = "num_playlists"
_ROWS_PER_PART = 1_000_000
_MERGE_AT_LEAST = 500_000
_PIECES_PER_PROCESS = 4
_BYTES_PER_PROCESS = 8 << 20
"""Fewer are read sooner than another process has started."""


@dataclass(frozen=True)
class IngestSummary:
    """What came in."""

    playlists: int
    """Challenge playlists among them."""
    challenge_playlists: int
    tracks: int
    cold_tracks: int
    """Tracks of the tracks file that no playlist holds."""
    described_tracks: int
    """Tracks of the playlists that the tracks file describes."""
    interactions: int
    repeats: int
    """Entries that named a track its playlist already held."""
    fingerprint: str


def ingest(
    sources: Sequence[Path],
    out: Path,
    tracks: Path | None = None,
    challenges: Sequence[Path] = (),
    progress: Progress = silent,
    processes: int | None = None,
) -> IngestSummary:
    """Writes the dataset `out`; replaces the dataset that is there, and nothing else.

    Tracks are ordered by how many playlists hold them, ties by id; then come the tracks that only the tracks file knows.
    Of a track that a playlist holds twice the first position stays, and the plays are added up. The sources are read by
    `processes` (by default one per core, fewer for little data), which change nothing in what is written. SegueError for a bad
    source, a playlist id that occurs twice, a tracks file that fits no track, and when there is no track at all.
    """
    if not is_dataset(out) and not is_free(out):
        raise SegueError(f"{out}: expected a dataset to replace, or nothing, found something else. Choose another --out")
    _refuse_same_file([*sources, *challenges])
    with replaced_whole(out) as folder:
        first = _FirstPass(folder)
        todo = [(piece, path) for path in (*sources, *challenges) for piece in pieces(path)]
        unread = [piece for piece, _ in todo]
        with done_by_processes(_read, unread, processes or _processes_for(unread)) as contents:
            for i, ((_, origin), content) in enumerate(zip(todo, contents, strict=True)):
                first.add(content, origin, is_challenge=origin in challenges)
                progress("reading", (i + 1) / len(todo))
        return _finish(first, folder, sources, tracks, challenges, progress)


def _refuse_same_file(paths: Sequence[Path]) -> None:
    twice = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if twice:
        raise SegueError(f"{twice[0]}: expected every source and challenge once, found this one twice")


def _processes_for(unread: Sequence[Piece]) -> int:
    size = sum(path.stat().st_size for path in {piece.path for piece in unread})
    return min(cores(), len(unread) // _PIECES_PER_PROCESS, size // _BYTES_PER_PROCESS)


@dataclass(frozen=True)
class _Content:
    """What a piece says, in a form that is small to hand over."""

    playlists: pl.DataFrame
    """SLICE_PLAYLISTS"""
    held: pl.DataFrame
    """PLAYLIST_INDEX within the piece, _KEY, POSITION, PLAYS; one row per playlist and track."""
    tracks: pl.DataFrame
    """One row per track, as _tallied."""
    num_entries: int
    """Repeats among them."""


def _read(piece: Piece) -> _Content:
    slice_ = piece.read()
    entries = _without_repeats(slice_.entries)
    tracks = _tallied(entries.with_columns(pl.lit(1, pl.UInt32).alias(_COUNT)))
    rising = pl.col(POSITION).cum_max().over(PLAYLIST_INDEX)  # a row without a position comes after those that have one
    held = entries.select(PLAYLIST_INDEX, _KEY, rising, PLAYS)
    return _Content(_own_copy(slice_.playlists), _own_copy(held), tracks, slice_.entries.height)


class _FirstPass:
    """Takes slices in; keeps parts on disk, the playlists, and the tally of the tracks."""

    def __init__(self, folder: Path) -> None:
        self.parts: list[Path] = []
        self.tally = _Tally()
        self.playlists: list[pl.DataFrame] = []
        self.origins: list[tuple[Path, int]] = []
        self.num_playlists = 0
        self.num_entries = 0
        self.num_interactions = 0
        self._folder = folder
        self._waiting: list[pl.DataFrame] = []

    def add(self, content: _Content, origin: Path, is_challenge: bool) -> None:
        playlists = content.playlists.with_columns(pl.lit(is_challenge).alias(IS_CHALLENGE))
        self.playlists.append(conform(playlists, PLAYLISTS, str(origin)))
        self.origins.append((origin, playlists.height))
        self.tally.add(content.tracks)
        self._waiting.append(content.held.with_columns(pl.col(PLAYLIST_INDEX) + self.num_playlists))
        self.num_playlists += playlists.height
        self.num_entries += content.num_entries
        self.num_interactions += content.held.height
        if sum(part.height for part in self._waiting) >= _ROWS_PER_PART:
            self.write_part()

    def write_part(self) -> None:
        """What is waiting goes to disk."""
        if not self._waiting:
            return
        self.parts.append(self._folder / f"first-pass-{len(self.parts):05}.parquet")
        pl.concat(self._waiting).write_parquet(self.parts[-1], compression="lz4")
        self._waiting = []

    def all_playlists(self) -> pl.DataFrame:
        """schema.PLAYLISTS; SegueError when two have the same id."""
        playlists = pl.concat([pl.DataFrame(schema=PLAYLISTS), *self.playlists], rechunk=True)
        twice = playlists[PLAYLIST_ID].is_duplicated().arg_true()
        if len(twice):
            same = playlists.with_row_index().filter(pl.col(PLAYLIST_ID) == playlists[PLAYLIST_ID][twice[0]])["index"]
            files = " and in ".join(dict.fromkeys(str(self._origin(row)) for row in same))
            raise SegueError(f"{files}: expected playlist ids that occur once, found {playlists[PLAYLIST_ID][twice[0]]} {len(same)} times")
        return playlists

    def _origin(self, row: int) -> Path:
        for origin, height in self.origins:
            if row < height:
                return origin
            row -= height
        raise IndexError(row)


class _Tally:
    """One row per track met so far: its key, its id as first met, how many playlists hold it, what was first said of it."""

    def __init__(self) -> None:
        self._merged: pl.DataFrame | None = None
        self._waiting: list[pl.DataFrame] = []

    def add(self, tracks: pl.DataFrame) -> None:
        """Merges when as much waits as is merged, so that every row is merged a logarithmic number of times."""
        self._waiting.append(tracks)
        merged = 0 if self._merged is None else self._merged.height
        if sum(part.height for part in self._waiting) >= max(merged, _MERGE_AT_LEAST):
            self.rows()

    def rows(self) -> pl.DataFrame:
        parts = [part for part in (self._merged, *self._waiting) if part is not None]
        self._merged = _tallied(pl.concat(parts)) if parts else _no_tracks()
        self._waiting = []
        return self._merged


def _without_repeats(entries: pl.DataFrame) -> pl.DataFrame:
    """One row per playlist and track: the first position, all the plays."""
    keyed = entries.with_columns(bare(pl.col(TRACK_ID)).alias(_KEY))
    if not keyed.select(pl.struct(PLAYLIST_INDEX, _KEY).is_duplicated().any()).item():
        return keyed
    said = [pl.col(column).first(ignore_nulls=True) for column in (TRACK_ID, POSITION, *KNOWN_FROM_PLAYLISTS)]
    return keyed.group_by(PLAYLIST_INDEX, _KEY, maintain_order=True).agg(pl.col(PLAYS).sum(), *said).select(keyed.columns)


def _tallied(rows: pl.DataFrame) -> pl.DataFrame:
    said = [pl.col(column).first(ignore_nulls=True) for column in (TRACK_ID, *KNOWN_FROM_PLAYLISTS)]
    return _own_copy(rows.group_by(_KEY, maintain_order=True).agg(pl.col(_COUNT).sum(), *said))


def _own_copy(table: pl.DataFrame) -> pl.DataFrame:
    """The same table in memory of its own: a string cut out of a column keeps the whole column in memory, and joining it to "" does not."""
    return table.with_columns(pl.col(pl.String) + "")


def _no_tracks() -> pl.DataFrame:
    said = {column: CATALOG[column] for column in KNOWN_FROM_PLAYLISTS}
    return pl.DataFrame(schema={_KEY: pl.String(), _COUNT: pl.UInt32(), TRACK_ID: pl.String(), **said})


def _finish(
    first: _FirstPass, folder: Path, sources: Sequence[Path], tracks: Path | None, challenges: Sequence[Path], progress: Progress
) -> IngestSummary:
    """From the end of the first pass to the manifest."""
    first.write_part()
    playlists = first.all_playlists()
    known, described = _described_tracks(first.tally.rows(), tracks)
    if not known.height:
        raise SegueError(f"{', '.join(map(str, sources))}: expected playlists with tracks, found {playlists.height} playlists and no track")
    vocabulary = Vocabulary(known[TRACK_ID])
    vocabulary.save(folder / VOCABULARY_FILE)
    conform(known, CATALOG, "catalog").write_parquet(folder / CATALOG_FILE)
    playlists.write_parquet(folder / PLAYLISTS_FILE)
    _second_pass(first.parts, known[_KEY], folder / INTERACTIONS_FOLDER, progress)
    manifest = _write_manifest(folder, vocabulary, first.num_interactions, playlists, sources, tracks, challenges)
    return IngestSummary(
        playlists=manifest.num_playlists,
        challenge_playlists=manifest.num_challenge_playlists,
        tracks=manifest.num_tracks,
        cold_tracks=int((known[_COUNT] == 0).sum()),
        described_tracks=described,
        interactions=manifest.num_interactions,
        repeats=first.num_entries - first.num_interactions,
        fingerprint=manifest.fingerprint,
    )


def _described_tracks(held: pl.DataFrame, tracks: Path | None) -> tuple[pl.DataFrame, int]:
    """All tracks in the vocabulary's order with the catalog's columns, and how many held ones the tracks file describes."""
    if tracks is None:
        unknown = [pl.lit(None, dtype).alias(column) for column, dtype in CATALOG.items() if column not in held.columns]
        return _in_vocabulary_order(held.with_columns(unknown)), 0
    told = read_tracks(tracks).with_columns(bare(pl.col(TRACK_ID)).alias(_KEY)).unique(_KEY, keep="first", maintain_order=True)
    described = held.join(told, on=_KEY, how="semi").height
    if held.height and not described:
        ids = f"expected ids such as {held[TRACK_ID][0]}, found ids such as {told[TRACK_ID][0]}"
        raise SegueError(f"{tracks}: {ids}. No track of the playlists is described: is this their tracks file?")
    both = held.join(told, on=_KEY, how="full", coalesce=True, suffix="_told")
    first_said = [pl.coalesce(column, f"{column}_told").alias(column) for column in (TRACK_ID, *KNOWN_FROM_PLAYLISTS)]
    return _in_vocabulary_order(both.with_columns(pl.col(_COUNT).fill_null(0), *first_said)), described


def _in_vocabulary_order(tracks: pl.DataFrame) -> pl.DataFrame:
    return tracks.sort(pl.col(_COUNT), pl.col(TRACK_ID), descending=[True, False])


def _second_pass(parts: Sequence[Path], keys: pl.Series, folder: Path, progress: Progress) -> None:
    """The parts with track indices in the ids' place; there is at least one part, and none of the first pass is left."""
    folder.mkdir()
    index = keys.to_frame().with_row_index(TRACK_INDEX)
    for i, path in enumerate(parts):
        held = pl.read_parquet(path).join(index, on=_KEY, how="left", maintain_order="left")
        conform(held, INTERACTIONS, str(path)).write_parquet(folder / f"part-{i:05}.parquet")
        path.unlink()
        progress("indexing", (i + 1) / len(parts))
    if not parts:
        pl.DataFrame(schema=INTERACTIONS).write_parquet(folder / "part-00000.parquet")


def _write_manifest(
    folder: Path,
    vocabulary: Vocabulary,
    num_interactions: int,
    playlists: pl.DataFrame,
    sources: Sequence[Path],
    tracks: Path | None,
    challenges: Sequence[Path],
) -> DatasetManifest:
    files = file_facts(folder)
    manifest = DatasetManifest(
        fingerprint=fingerprint_of(files),
        vocabulary_hash=vocabulary.hash,
        num_tracks=len(vocabulary),
        num_playlists=playlists.height,
        num_challenge_playlists=int(playlists[IS_CHALLENGE].sum()),
        num_interactions=num_interactions,
        sources=tuple(path.name for path in sources),
        challenges=tuple(path.name for path in challenges),
        tracks=tracks.name if tracks else None,
        files=files,
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
    return manifest
