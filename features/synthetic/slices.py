"""The playlists of a synthetic world as slices of the Million Playlist Dataset, in one zip.

Slices are made in as many processes as there are cores, a few in memory at a time. Input: the tracks, and how many playlists.
Output: `mpd.zip`, the same bytes for the same arguments.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from features.processes import cores, done_by_processes
from features.progress import Progress
from features.synthetic.playlists import draw_lengths, draw_playlists, tracks_of_their_own
from features.synthetic.world import World

PLAYLISTS_PER_SLICE = 1_000
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_SLICES_PER_PROCESS = 4
"""Fewer are made sooner than another process has started."""


@dataclass(frozen=True)
class Slices:
    """Makes slices in any process: the tracks are mapped into memory, so that all processes share them."""

    tracks: Path
    """World.tracks, as an Arrow file."""
    playlists: int
    seed: int

    @cached_property
    def world(self) -> World:
        return World(pl.DataFrame(pa.ipc.open_file(pa.memory_map(str(self.tracks))).read_all()))

    def __call__(self, start: int) -> bytes:
        return _slice(self.world, start, self.playlists, self.seed).encode()


def write_zip(path: Path, slices: Slices, playlists: int, progress: Progress, processes: int | None) -> None:
    """All `playlists`, by `processes`; by default one per core, fewer for few slices."""
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


def _slice(world: World, start: int, playlists: int, seed: int) -> str:
    """The JSON of the slice that begins with playlist `start`, of a world of so many `playlists`."""
    stop = min(start + PLAYLISTS_PER_SLICE, playlists)
    random = np.random.default_rng([seed, 1, start])
    made = draw_playlists(world, draw_lengths(stop - start, random), random, tracks_of_their_own(start, stop, playlists, len(world)))
    followers = random.zipf(2.2, len(made)).clip(1, 50_000).tolist()
    described, ends = world.described(made.tracks.values), made.tracks.offsets.tolist()
    rows = (_playlist(start + i, made.titles[i], followers[i], described[ends[i] : ends[i + 1]]) for i in range(len(made)))
    return f'{{"info":{{"slice":"{start}-{stop - 1}","version":"v1"}},"playlists":[\n{lines(rows)}\n]}}\n'


def _playlist(pid: int, title: str, followers: int, described: list[str]) -> str:
    said = f'"name":{json.dumps(title)},"pid":{pid},"num_followers":{followers},"num_tracks":{len(described)}'
    return f'{{{said},"tracks":{entries(enumerate(described))}}}'


def entries(placed: Iterable[tuple[int, str]]) -> str:
    """The JSON of pairs of place and description."""
    return "[" + ",".join([f'{{"pos":{place},{described}' for place, described in placed]) + "]"


def lines(rows: Iterable[str]) -> str:
    """The JSON of objects, a line each."""
    return ",\n".join(rows)
