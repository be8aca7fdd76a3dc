"""Track vectors on disk: one plain array, mapped into memory and shared by every process that reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from features.domain import Floats, SegueError

FILE = "track_vectors.npy"


def save_vectors(folder: Path, vectors: Floats) -> None:
    np.save(folder / FILE, vectors)


def open_vectors(folder: Path, shape: tuple[int, int]) -> Floats:
    """(num_tracks, dim) mapped read-only; another shape than the wanted one is an error."""
    vectors: Floats = np.load(folder / FILE, mmap_mode="r", allow_pickle=False)
    if vectors.shape != shape or vectors.dtype != np.float32:
        raise SegueError(f"{folder / FILE}: expected float32 {shape}, found {vectors.dtype} {vectors.shape}. Train again")
    return vectors
