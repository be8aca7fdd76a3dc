"""Small worlds on disk, in the layouts people have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features.synthetic import write_world

Make = Callable[..., Path]


def entry(track: str, **more: Any) -> dict[str, Any]:
    return {"track_uri": f"spotify:track:{track}", "track_name": f"title {track}", "artist_name": f"artist {track[0]}", **more}


def playlist(pid: int | str, *tracks: str, **more: Any) -> dict[str, Any]:
    entries = [entry(track, pos=i) for i, track in enumerate(tracks)]
    return {"pid": pid, "name": f"list {pid}", "num_followers": 3, "tracks": entries, **more}


def slice_text(*playlists: dict[str, Any], **more: Any) -> str:
    return json.dumps({"info": {"slice": "0-999"}, "playlists": list(playlists), **more})


@pytest.fixture
def slice_file(tmp_path: Path) -> Path:
    """Two playlists over the tracks a1, a2, b1: a1 is in both, b1 twice in the second."""
    path = tmp_path / "mpd.slice.0-1.json"
    path.write_text(slice_text(playlist(0, "a1", "a2"), playlist(1, "b1", "a1", "b1")))
    return path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic world of 1,200 playlists over 1,000 tracks; nobody writes into it."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, playlists=1_200, tracks=1_000, seed=3)
    return folder
