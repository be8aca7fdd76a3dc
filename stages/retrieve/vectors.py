"""Track vectors on disk: one plain array, mapped into memory and shared by every process that reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from features.domain import Floats
from features.npy import load_array, save_array

FILE = "track_vectors.npy"


def save_vectors(folder: Path, vectors: Floats) -> None:
    save_array(folder / FILE, vectors)


def open_vectors(folder: Path, shape: tuple[int, int | None]) -> Floats:
    """(num_tracks, dim) mapped read-only; another shape than the wanted one is an error, where None stands for any size."""
    return load_array(folder / FILE, dtype=np.float32, shape=shape, mmap=True)
