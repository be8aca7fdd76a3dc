"""Item-item filtering by a graph: tracks that share playlists, normalised by the popularity of both.

Input: playlist-track interactions. Output: for every track its nearest neighbours in the bipartite graph of
playlists and tracks. The weight of j for the seed i is that of two steps through the graph,

    s_ij = sum over the playlists u that hold both of  n_u^-p  x  n_i^-a  x  n_j^-b

with n_u tracks in u and n_i, n_j playlists of i and j: p = 1, a = b = 0.5 is the linear filter of GF-CF (Shen et al., "How
Powerful is Graph Convolution for Recommendation?", 2021); p = a = 1 and a smaller b the RP3-beta of Paudel et al., "Updatable,
Accurate, Diverse, and Scalable Recommendations for Interactive Applications" (2016). With several workers each computes the
rows of its share of the tracks. Knows no title, no content and no vectors.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from features.interactions import Interactions, evenly_thinned
from features.progress import Progress
from stages import parallel
from stages.retrieve.item_item.model import GraphRecipe, Items
from stages.retrieve.item_item.training.gather import gather_items
from stages.retrieve.sparse import keep_largest
from stages.training_data import TrainingData

BLOCK_STEPS = 20_000_000
"""Steps through the graph computed at once; bounds the working memory."""


def fit_graph(recipe: GraphRecipe, data: TrainingData, report: Progress) -> Items:
    held = data.interactions
    start, stop = parallel.shard(data.num_tracks)
    seeds, tracks = _steps(recipe, held)
    own, parts = seeds[start:stop], []
    for block in _blocks(own, held.lengths()):
        first = start + block.start
        nearest = keep_largest(_without_diagonal(own[block] @ tracks, first), recipe.neighbours)
        of_row = first + np.repeat(np.arange(nearest.shape[0], dtype=np.int32), np.diff(nearest.indptr))
        parts.append((of_row, nearest.indices, nearest.data))
        report("graph", block.stop / max(stop - start, 1), {})
    return gather_items(recipe.kind, parts, data.num_tracks)


def _steps(recipe: GraphRecipe, held: Interactions) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """(tracks, playlists) from a seed to its playlists, and (playlists, tracks) from there to candidates."""
    lengths, counts = (np.maximum(sizes, 1).astype(np.float32) for sizes in (held.lengths(), held.track_counts))
    seeds = evenly_thinned(held.holds.T.tocsr(), recipe.most_playlists)
    thinned = counts / np.maximum(np.diff(seeds.indptr), 1)  # how many playlists each sampled one stands for
    seeds = sp.diags(thinned * counts**-recipe.seed_exponent) @ seeds @ sp.diags(lengths**-recipe.playlist_exponent)
    return seeds.tocsr().astype(np.float32), (held.holds @ sp.diags(counts**-recipe.candidate_exponent)).tocsr().astype(np.float32)


def _blocks(seeds: sp.csr_matrix, lengths: np.ndarray) -> Iterator[slice]:
    """The rows of `seeds` in runs of about BLOCK_STEPS steps."""
    steps = np.concatenate([[0], np.cumsum(lengths[seeds.indices])])[seeds.indptr]
    start = 0
    while start < seeds.shape[0]:
        stop = max(int(np.searchsorted(steps, steps[start] + BLOCK_STEPS, side="right")) - 1, start + 1)
        yield slice(start, stop)
        start = stop


def _without_diagonal(block: sp.csr_matrix, first: int) -> sp.csr_matrix:
    """No track is a neighbour of its own; row i of the block is track `first` + i."""
    rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    block.data[block.indices == rows + first] = 0
    return block
