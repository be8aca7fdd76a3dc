"""The files of a synthetic world, all four, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from features.atomic import replaced_whole
from features.domain import SegueError
from features.progress import Progress, silent
from features.synthetic.audio import audio_features
from features.synthetic.challenge import CATEGORIES, write_challenge
from features.synthetic.slices import Slices, write_zip
from features.synthetic.world import World

_TRACKS_FILE = "tracks.arrow"
_FILES = frozenset(("mpd.zip", "audio_features.parquet", "challenge.json", "truth.parquet"))


def write_world(
    folder: Path, playlists: int = 3_000, tracks: int = 6_000, seed: int = 0, progress: Progress = silent, processes: int | None = None
) -> None:
    """Writes the four files as `folder`; a tenth as many challenge playlists, at least 50 and at most 10,000, come on top.

    Replaces a world that is there, and nothing else. The slices are made by `processes` (by default one per core, fewer for few
    slices), which change no byte. SegueError below 1 playlist or 500 tracks, where the shapes of the challenge no longer fit.
    """
    if playlists < 1 or tracks < 500:
        raise SegueError(f"synthetic world: expected at least 1 playlist and 500 tracks, found {playlists} and {tracks}")
    _require_replaceable(folder)
    with replaced_whole(folder) as made:
        World.of(tracks, seed).tracks.write_ipc(made / _TRACKS_FILE)
        slices = Slices(made / _TRACKS_FILE, playlists, seed)
        audio_features(slices.world, seed).write_parquet(made / "audio_features.parquet")
        write_challenge(made, slices.world, playlists, min(max(playlists // 10, 5 * len(CATEGORIES)), 10_000), seed)
        write_zip(made / "mpd.zip", slices, playlists, progress, processes)
        (made / _TRACKS_FILE).unlink()


def _require_replaceable(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= _FILES):
        raise SegueError(f"{folder}: expected a synthetic world to replace, or nothing, found something else. Choose another folder")
