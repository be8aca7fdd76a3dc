"""Warm start: initial rows from an older model.

Input: the older model's rows, and the initial rows without it. Output: an initial row for every track. A linear map is fitted
from the initial rows of the tracks that both models know to their older rows; it is applied to the initial rows of new
tracks. Knows no model.
"""

from __future__ import annotations

import numpy as np
import torch

from features.domain import NO_TRACK, Floats
from stages.resume import WarmStart

RIDGE = 1e-3
"""Of the map, in shares of the mean square of what it maps."""


def warm_rows(start: torch.Tensor, older: WarmStart, vectors: Floats) -> torch.Tensor:
    """(num_tracks, dim + 1), as `start` where there is no older model and as its `vectors` (n, dim + 1): the last coordinate is
    the bias, which stays as it is. Nobody held a track whose other coordinates are 0 there, so it is new.
    """
    known = np.flatnonzero(older.rows != NO_TRACK)
    known = known[vectors[older.rows[known], :-1].any(axis=1)]
    own = np.array(vectors[older.rows[known]], np.float32)
    turn = torch.from_numpy(linear_map(start[known, :-1].numpy(), own[:, :-1]))
    rows = torch.cat([start[:, :-1] @ turn, start[:, -1:]], dim=1)
    rows[known] = torch.from_numpy(own)
    return rows


def linear_map(inputs: Floats, outputs: Floats) -> Floats:
    """(num_inputs, num_outputs) of rows `inputs` (n, num_inputs) to rows `outputs` (n, num_outputs), by ridge regression."""
    gram = (inputs.T @ inputs).astype(np.float64)
    ridge = max(RIDGE * float(np.trace(gram)) / max(len(gram), 1), 1e-12)
    return np.linalg.solve(gram + ridge * np.eye(len(gram)), (inputs.T @ outputs).astype(np.float64)).astype(np.float32)
