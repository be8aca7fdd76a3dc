"""Training of the related artists: ALS over playlists x artists.

Input: playlist-track interactions, and the tracks' artists. Output: a trained source. Knows no title and no content.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import scipy.sparse as sp

from features.catalog import UNKNOWN
from features.domain import NO_TRACK, Floats, Ints
from features.interactions import Interactions
from features.progress import Progress
from stages.protocols import require_finite
from stages.resume import WarmStart
from stages.retrieve.als.training import factorize
from stages.retrieve.catalogue.related_artists import Related, RelatedRecipe
from stages.retrieve.index.selection import with_chosen_index
from stages.training_data import TrainingData


def fit_related(recipe: RelatedRecipe, data: TrainingData, report: Progress) -> Related:
    artists, counts = data.catalog.artists, data.interactions.track_counts
    of_artists = _artist_vectors(recipe, data, report)
    played = np.any(of_artists, axis=1)
    known = np.flatnonzero((artists != UNKNOWN) & played[artists]).astype(np.int32)
    tracks = np.zeros((len(artists), of_artists.shape[1]), np.float32)
    tracks[known] = of_artists[artists[known]] * ((1.0 + counts[known]) ** recipe.popularity)[:, None]
    related = Related(recipe, tracks, recipe.index.build(tracks, known, data.seed), artists, of_artists[:-1])
    return with_chosen_index(related, recipe.index, data)


def _artist_vectors(recipe: RelatedRecipe, data: TrainingData, report: Progress) -> Floats:
    """(num_artists + 1, width) the last row is that of UNKNOWN, zeros; artists in no playlist have zeros too."""
    held, artists, past = data.interactions, data.catalog.artists, data.past
    num_artists = int(artists.max(initial=UNKNOWN)) + 1
    vectors = np.zeros((num_artists + 1, recipe.als.width), np.float32)
    played = np.unique(artists[held.track_counts > 0])
    if played.max(initial=UNKNOWN) == UNKNOWN:
        return vectors
    start = None if past.older is None else _start(past.older, artists, num_artists)
    plays, shape = partial(artist_plays, held, artists), (held.num_playlists, num_artists)
    found = factorize(recipe.als, plays, shape, data.seed, report, past, start)
    known = played[played != UNKNOWN]
    vectors[known] = require_finite("related artist vectors", found)[known]
    return vectors


def artist_plays(held: Interactions, artists: Ints, first: int, last: int) -> sp.csr_matrix:
    """(last - first, num_artists) log2(1 + tracks of the artist in the playlist), for the playlists `first` to before `last`."""
    known = np.flatnonzero(artists != UNKNOWN)
    shape = (len(artists), int(artists.max(initial=UNKNOWN)) + 1)
    made_by = sp.csr_matrix((np.ones(len(known), np.float32), (known, artists[known])), shape=shape)
    plays = (held.part(first, last).holds @ made_by).tocsr()
    plays.data = np.log2(1 + plays.data)
    return plays


def _start(older: WarmStart, artists: Ints, num_artists: int) -> Floats:
    """(num_artists, width) the older model's vector of each artist, found by a track of it that both know; else zeros."""
    source = older.source_of(Related)
    both = np.flatnonzero((artists != UNKNOWN) & (older.rows != NO_TRACK))
    start = np.zeros((num_artists, source.artist_vectors.shape[1]), np.float32)
    start[artists[both]] = source.artist_vectors[source.artists[older.rows[both]]]
    return start
