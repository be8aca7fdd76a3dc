"""Pairs of (playlist, track) become a dataset in memory, whichever library they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp

from features.domain import SegueError
from features.frames import dataset_of, is_pairs

PAIRS = {"who": ["b", "a", "b", "a", "b", "c"], "what": ["t2", "t1", "t1", "t3", "t2", "t1"]}
TABLES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "polars": pl.DataFrame,
    "pandas": pd.DataFrame,
    "arrow": lambda pairs: pl.DataFrame(pairs).to_arrow(),
}
of_every_library = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


@of_every_library
def test_playlists_and_their_tracks_keep_their_order_and_repeats_are_plays(table: Callable[..., Any]) -> None:
    dataset = dataset_of(table(PAIRS))
    held = dataset.interactions
    assert dataset.playlists["playlist_id"].to_list() == ["b", "a", "c"]
    assert [dataset.vocabulary.ids(held.tracks_of(i)) for i in range(3)] == [["t2", "t1"], ["t1", "t3"], ["t1"]]
    assert held.plays.tolist() == [2, 1, 1, 1, 1]


def test_the_most_held_track_is_the_first() -> None:
    assert dataset_of(pl.DataFrame(PAIRS)).vocabulary.track_ids.to_list() == ["t1", "t2", "t3"]


@of_every_library
def test_ids_may_be_numbers_and_columns_may_have_names(table: Callable[..., Any]) -> None:
    dataset = dataset_of(table({"plays": [9, 9], "track_id": [7, 8], "playlist_id": [1, 2]}))
    assert dataset.playlists["playlist_id"].to_list() == ["1", "2"]
    assert dataset.vocabulary.track_ids.to_list() == ["7", "8"]


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csr_array, sp.coo_array, sp.csc_matrix])
def test_a_matrix_keeps_its_rows_and_columns(kind: Callable[[Any], Any]) -> None:
    matrix = kind(np.array([[0, 2, 0, 0], [1, 0, 0, 3]]))
    dataset = dataset_of(matrix)
    held = dataset.interactions
    assert (held.num_playlists, held.num_tracks) == (2, 4)
    np.testing.assert_array_equal(held.matrix.toarray(), matrix.toarray())
    assert dataset.vocabulary.track_ids.to_list() == ["0", "1", "2", "3"]


def test_a_matrix_is_left_as_it_is() -> None:
    matrix = sp.csr_matrix((np.ones(2), np.array([1, 1]), np.array([0, 2])), shape=(1, 3))
    dataset = dataset_of(matrix)
    assert dataset.interactions.plays.tolist() == [2]
    assert matrix.nnz == 2


def test_nothing_else_is_known_of_the_tracks() -> None:
    dataset = dataset_of(pl.DataFrame(PAIRS))
    assert len(dataset.catalog) == 3
    assert dataset.catalog.artists.tolist() == [-1, -1, -1]
    assert dataset.playlists["title"].to_list() == [""] * 3


def test_the_same_pairs_have_the_same_fingerprint_and_others_another() -> None:
    one, same, other = (dataset_of(pl.DataFrame(pairs)) for pairs in (PAIRS, PAIRS, {**PAIRS, "what": PAIRS["who"]}))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_no_pair_at_all_is_a_dataset_of_nothing() -> None:
    dataset = dataset_of(pl.DataFrame({"playlist_id": [], "track_id": []}, schema={"playlist_id": pl.String, "track_id": pl.String}))
    assert (dataset.interactions.num_playlists, dataset.interactions.num_tracks) == (0, 0)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (pl.DataFrame({"a": [1], "b": [2], "c": [3]}), "expected the columns playlist_id and track_id, or two columns, found a, b, c"),
        (pl.DataFrame(), "found none"),
        (pl.DataFrame({"a": ["p", None], "b": ["t", "u"]}), "expected a playlist and a track in every row, found 1 missing values"),
        (sp.csr_matrix(np.array([[0.0, -1.0]])), r"expected entries of 0 or more, found -1\.0"),
        (sp.csr_matrix(np.array([[0.0, np.nan]])), "expected entries of 0 or more, found nan"),
    ],
)
def test_what_are_no_pairs_is_refused(pairs: Any, message: str) -> None:
    with pytest.raises(SegueError, match=message) as caught:
        dataset_of(pairs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("other", ["dataset", [("p", "t")], np.zeros((2, 2)), None])
def test_other_things_are_no_pairs(other: object) -> None:
    assert not is_pairs(other)
