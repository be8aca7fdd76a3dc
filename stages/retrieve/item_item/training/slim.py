"""SLIM, a sparse linear item-item model: each track is regressed on its nearest neighbours.

Input: playlist-track interactions. Output: for every track the weights of its neighbours. For each track j the weights w of its nearest
tracks S, by cosine of their playlist sets, are those of a ridge regression,

    (G_SS + ridge I + shrinkage diag(G_SS)) w = G_Sj,      G = X'X: in how many playlists two tracks are together

of which the positive ones are kept. The model is SLIM (Ning and Karypis, "SLIM: Sparse Linear Methods for Top-N
Recommender Systems", 2011) with its feature selection by neighbours, solved in the closed form of EASE (Steck, "Embarrassingly
Shallow Autoencoders for Sparse Data", 2019; the shrinkage: "Autoencoders that don't overfit towards the Identity", 2020) on
each neighbourhood, so that nothing of size tracks x tracks is inverted.
Tracks of very few playlists say too little for a regression: they are neither seeds nor answers here. Of a large dataset a
sample of whole playlists is enough. With several workers each solves for its share of the tracks.
Knows no title, no content and no vectors.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from features.domain import Floats, Ints
from features.interactions import Interactions
from features.progress import Progress
from stages import parallel
from stages.retrieve.item_item.model import Items, SlimRecipe
from stages.retrieve.item_item.training.gather import Entries, gather_items
from stages.retrieve.sparse import keep_largest
from stages.training_data import TrainingData

BLOCK = 256
"""Tracks solved for at once."""


def fit_slim(recipe: SlimRecipe, data: TrainingData, report: Progress) -> Items:
    held = data.interactions.sampled(recipe.most_entries, data.seed)
    tracks = _tracks(recipe, held)
    x = held.holds[:, tracks]
    together = (x.T @ x).tocsr()
    start, stop = parallel.shard(len(tracks))
    parts = []
    for first in range(start, stop, BLOCK):
        neighbours, targets, weights = _solve(recipe, together, np.arange(first, min(first + BLOCK, stop)))
        parts.append((tracks[neighbours], tracks[targets], weights))
        report("slim", min(first + BLOCK - start, stop - start) / (stop - start), {})
    return gather_items(recipe.kind, parts, data.num_tracks)


def _tracks(recipe: SlimRecipe, held: Interactions) -> Ints:
    """(m,) the tracks of the model, ascending."""
    order = np.argsort(-held.track_counts, kind="stable")[: recipe.most_tracks]
    return np.sort(order[held.track_counts[order] >= recipe.least_playlists]).astype(np.int32)


def _solve(recipe: SlimRecipe, together: sp.csr_matrix, targets: np.ndarray) -> Entries:
    """The positive weights for a block of tracks `targets` (b,); all tracks are rows of `together` (m, m)."""
    near, shared = _neighbourhoods(together, targets, recipe.neighbours)
    systems = np.stack([together[own][:, own].toarray() for own in near])  # (b, k, k)
    everywhere = np.arange(near.shape[1])
    systems[:, everywhere, everywhere] *= 1 + recipe.shrinkage
    padding = shared == 0  # a neighbour shares a playlist; what shares none fills up the row
    systems[padding] = 0
    systems.transpose(0, 2, 1)[padding] = 0
    systems[:, everywhere, everywhere] += recipe.ridge
    weights = torch.linalg.solve(torch.from_numpy(systems), torch.from_numpy(shared)[:, :, None])[:, :, 0].numpy()
    rows, columns = np.nonzero(weights > 0)
    return near[rows, columns], targets[rows], weights[rows, columns]


def _neighbourhoods(together: sp.csr_matrix, targets: np.ndarray, neighbours: int) -> tuple[Ints, Floats]:
    """(b, k) the nearest tracks of each target by cosine, and the number of playlists each shares with it; padded with 0, 0."""
    shared, lengths = together[targets], np.sqrt(together.diagonal())
    of_row = np.repeat(np.arange(len(targets)), np.diff(shared.indptr))
    cosines = shared.copy()
    cosines.data /= lengths[shared.indices]  # the target's own length does not change its order
    cosines.data[shared.indices == targets[of_row]] = 0
    nearest = keep_largest(cosines, neighbours)
    near = np.zeros((len(targets), neighbours), np.int32)
    counts = np.zeros((len(targets), neighbours), np.float32)
    rows = np.repeat(np.arange(len(targets)), np.diff(nearest.indptr))
    places = np.arange(nearest.nnz) - nearest.indptr[rows]
    near[rows, places] = nearest.indices
    counts[rows, places] = nearest.data * lengths[nearest.indices]
    return near, counts
