"""Track vectors on disk: one plain array, mapped into memory and shared by every process that reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from features.arrays import load_array, save_array
from features.domain import Floats

FILE, BIASES = "track_vectors.npy", "track_biases.npy"


def save_vectors(folder: Path, vectors: Floats) -> None:
    save_array(folder / FILE, vectors)


def save_biases(folder: Path, biases: Floats | None) -> None:
    """Where there are any."""
    if biases is not None:
        save_array(folder / BIASES, np.ascontiguousarray(biases))


def open_biases(folder: Path, num_tracks: int) -> Floats:
    return load_array(folder / BIASES, dtype=np.float32, shape=(num_tracks,), mmap=True)


def open_vectors(folder: Path, shape: tuple[int, int | None]) -> Floats:
    """(num_tracks, dim) mapped read-only; another shape than the wanted one is an error, where None stands for any size."""
    return load_array(folder / FILE, dtype=np.float32, shape=shape, mmap=True)
