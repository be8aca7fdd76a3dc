"""Gathers the item-item weights of all workers into one trained source.

Input: this worker's entries. Output: the whole matrix, the same on every worker. Knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import scipy.sparse as sp
import torch

from features.domain import Floats, Ints
from stages import parallel
from stages.retrieve.item_item.model import Items

Entries = tuple[Ints, Ints, Floats]
"""(n,) seeds, (n,) the tracks they speak for, (n,) weights; no pair twice."""


def gather_items(model: str, parts: Iterable[Entries], num_tracks: int) -> Items:
    """The `parts` of all workers, each of which has its own."""
    nothing = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))
    own = [torch.from_numpy(np.concatenate(columns)) for columns in zip(nothing, *parts, strict=True)]
    seeds, tracks, weights = (parallel.all_gather(column).numpy() for column in own)
    return Items(model, sp.csr_matrix((weights, (seeds, tracks)), shape=(num_tracks, num_tracks)))
