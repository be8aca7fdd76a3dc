from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from features.domain import Ints
from features.interactions import Interactions
from features.schema import INTERACTIONS
from tests import worlds

ROWS = st.lists(st.dictionaries(st.integers(0, 9), st.integers(1, 5), max_size=8), max_size=6)


def table_of(rows: list[dict[int, int]]) -> pl.DataFrame:
    entries = [(p, track, place, plays) for p, row in enumerate(rows) for place, (track, plays) in enumerate(row.items())]
    return pl.DataFrame(entries, schema=INTERACTIONS, orient="row")


def held_of(rows: list[dict[int, int]], titles: list[str], num_tracks: int, followers: Ints | None = None) -> Interactions:
    table = table_of(rows)
    return Interactions.from_parts([table], table.height, titles, num_tracks, followers)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, cut=st.integers(0, 20))
def test_arrays_and_matrix_say_what_the_table_says(rows: list[dict[int, int]], cut: int) -> None:
    table = table_of(rows)
    parts = [table[:cut], table[cut:]]
    held = Interactions.from_parts(parts, table.height, [f"list {i}" for i in range(len(rows))], 10)
    assert held.num_playlists == len(rows)
    assert [held.tracks_of(i).tolist() for i in range(len(rows))] == [list(row) for row in rows]
    assert held.lengths().tolist() == [len(row) for row in rows]
    assert held.track_counts.tolist() == [sum(track in row for row in rows) for track in range(10)]
    expected = [[float(row.get(track, 0)) for track in range(10)] for row in rows]
    assert held.matrix.shape == (len(rows), 10)
    assert held.matrix.toarray().tolist() == expected
    assert (held.tracks.dtype, held.plays.dtype, held.offsets.dtype, held.matrix.dtype) == (np.int32, np.float32, np.int64, np.float32)


def test_playlists_at_the_end_may_hold_nothing() -> None:
    held = held_of([{3: 1}], ["one", "none", "none either"], 4)
    assert [held.tracks_of(i).tolist() for i in range(3)] == [[3], [], []]
    assert held.matrix.shape == (3, 4)


def test_the_order_of_a_playlist_survives_what_is_done_with_the_matrix() -> None:
    """The matrix shares its memory with the playlists: whoever sorted it would sort them."""
    held = worlds.interactions([[3, 1, 2], [2, 0]], 4)
    _ = held.matrix.T.tocsr() @ held.matrix
    _ = held.matrix[1:], held.matrix.copy(), held.matrix.toarray()
    assert held.tracks_of(0).tolist() == [3, 1, 2]


def test_followers_are_zero_where_nobody_said() -> None:
    assert held_of([{3: 1}], ["one", "none"], 4).followers.tolist() == [0, 0]
    known = held_of([{3: 1}], ["one", "none"], 4, np.array([7, 2], np.int32))
    assert known.followers.tolist() == [7, 2]
    assert worlds.interactions([[1], [2]], 3).followers.tolist() == [0, 0]


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 9))
def test_some_playlists_in_any_order_are_those_of_all(rows: list[dict[int, int]], seed: int) -> None:
    held = held_of(rows, [f"list {i}" for i in range(len(rows))], 10, np.arange(len(rows), dtype=np.int32))
    chosen = np.random.default_rng(seed).permutation(len(rows))[: len(rows) * 2 // 3].astype(np.int32)
    some = held.of_playlists(chosen)
    assert [some.tracks_of(i).tolist() for i in range(len(chosen))] == [held.tracks_of(row).tolist() for row in chosen]
    assert some.plays.tolist() == [plays for row in chosen for plays in rows[row].values()]
    assert (some.titles, some.followers.tolist()) == (tuple(f"list {row}" for row in chosen), chosen.tolist())
    assert (some.tracks.dtype, some.plays.dtype, some.offsets.dtype) == (np.int32, np.float32, np.int64)
