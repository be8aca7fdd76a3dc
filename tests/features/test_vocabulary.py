from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.domain import NO_TRACK, SegueError
from features.vocabulary import Vocabulary

ids = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=30, unique=True)


@given(ids)
def test_ids_and_indices_are_inverse(track_ids: list[str]) -> None:
    vocabulary = Vocabulary(track_ids)
    assert vocabulary.ids(vocabulary.index_of(track_ids)) == track_ids
    assert vocabulary.index_of(track_ids).tolist() == list(range(len(track_ids)))


@pytest.mark.parametrize(("held", "asked"), [("spotify:track:X", "X"), ("X", "spotify:track:X"), ("X", "X")])
def test_both_forms_of_a_spotify_id_are_one_track(held: str, asked: str) -> None:
    assert Vocabulary(("Y", held)).index_of([asked]).tolist() == [1]


def test_an_unknown_id_has_no_index() -> None:
    found = Vocabulary(("a", "b")).index_of(["c", "b", ""])
    assert found.tolist() == [NO_TRACK, 1, NO_TRACK]
    assert found.dtype == np.int32


def test_the_exact_form_goes_before_the_other() -> None:
    assert Vocabulary(("X", "spotify:track:X")).index_of(["spotify:track:X", "X"]).tolist() == [1, 0]


@pytest.mark.parametrize("bad", [NO_TRACK, 2])
def test_an_index_outside_is_refused_with_both_sides(bad: int) -> None:
    with pytest.raises(SegueError, match=rf"expected 0 to 1, found .*{bad}"):
        Vocabulary(("a", "b")).ids([bad])


def test_equal_ids_are_refused() -> None:
    with pytest.raises(SegueError, match="expected 3 different track ids, found 2"):
        Vocabulary(("a", "b", "a"))


def test_the_hash_is_sha256_over_the_ids_in_order() -> None:
    assert Vocabulary(("a", "bc")).hash == hashlib.sha256(b"a\nbc\n").hexdigest()
    assert Vocabulary(("a", "bc")).hash == Vocabulary(pl.Series(["a", "bc"])).hash
    assert Vocabulary(("bc", "a")).hash != Vocabulary(("a", "bc")).hash


def test_saved_and_opened_it_is_the_same(tmp_path: Path) -> None:
    Vocabulary(("ü", "b")).save(tmp_path / "v.parquet")
    opened = Vocabulary.open(tmp_path / "v.parquet")
    assert (opened.ids([0, 1]), opened.hash, len(opened)) == (["ü", "b"], Vocabulary(("ü", "b")).hash, 2)


def test_what_is_no_vocabulary_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match=r"expected a table of track_id, found .*No such file"):
        Vocabulary.open(tmp_path / "missing.parquet")
    pl.DataFrame({"id": ["a"]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(SegueError, match="expected the columns track_id String, found id String"):
        Vocabulary.open(tmp_path / "other.parquet")
