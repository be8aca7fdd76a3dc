from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from features.catalog import Catalog
from features.content import ContentMatrix, ContentRecipe, feature_of, group_of
from features.interactions import Interactions
from features.schema import CATALOG, INTERACTIONS


def catalog(rows: int, **columns: list[Any]) -> Catalog:
    nothing = {name: pl.Series([None] * rows, dtype=dtype) for name, dtype in CATALOG.items()}
    known = {name: pl.Series(values, dtype=CATALOG[name]) for name, values in columns.items()}
    return Catalog(pl.DataFrame(nothing | known))


def fit(described: Catalog, **options: Any) -> ContentMatrix:
    held = Interactions.from_parts([], 0, (), len(described))
    return ContentRecipe(**options).fit(described, held)


def column(matrix: ContentMatrix, name: str) -> list[float]:
    return [round(value, 4) for value in matrix.values[:, matrix.names.index(name)].tolist()]


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_bare_ids_have_no_features(rows: int) -> None:
    matrix = fit(catalog(rows))
    assert matrix.values.shape == (rows, 0)
    assert (matrix.values.dtype, matrix.names) == (np.float32, ())


def test_min_max_is_between_0_and_1() -> None:
    assert column(fit(catalog(3, tempo=[60, 120, 90]), scaling="min-max"), "tempo") == [0.0, 1.0, 0.5]


def test_robust_is_0_at_the_median_and_clipped_at_3() -> None:
    scaled = column(fit(catalog(6, tempo=[1, 2, 3, 4, 5, 1e6])), "tempo")
    assert scaled[-1] == 3.0
    assert scaled[2] == pytest.approx(-scaled[3], abs=1e-3)


def test_half_or_more_of_one_value_still_scales() -> None:
    scaled = column(fit(catalog(5, instrumentalness=[0, 0, 0, 0, 1])), "instrumentalness")
    assert scaled[:4] == [0.0] * 4
    assert 0 < scaled[4] <= 3


def test_a_missing_value_is_its_artists_mean_else_the_mean_of_all() -> None:
    described = catalog(6, artist=["a", "a", "a", "b", None, None], energy=[0, 0.5, None, 1, None, 0.5])
    matrix = fit(described, scaling="min-max", artist_components=0)
    assert column(matrix, "energy") == [0.0, 0.5, 0.25, 1.0, 0.5, 0.5]
    assert column(matrix, "missing audio") == [0, 0, 1, 0, 1, 0]
    assert column(matrix, "missing artist") == [0, 0, 0, 0, 1, 1]


def test_categories_are_one_hot_and_missing_ones_are_nothing() -> None:
    matrix = fit(catalog(4, key=[0, 11, -1, None], mode=[1, 0, 0, 7], time_signature=[4, 4, 3, 4]))
    assert [name for name in matrix.names if "key" in name] == ["key=0", "key=11"]
    assert (column(matrix, "key=0"), column(matrix, "key=11")) == ([1, 0, 0, 0], [0, 1, 0, 0])
    assert column(matrix, "time_signature=3") == [0, 0, 1, 0]
    assert column(matrix, "mode") == [1.0, 0.0, 0.0, pytest.approx(1 / 3, abs=1e-3)]


def test_only_the_most_frequent_genres_have_a_column() -> None:
    matrix = fit(catalog(6, genre=["c", "b", "a", "b", "c", None]), genres=2)
    assert matrix.names == ("genre=b", "genre=c", "missing genre")


def test_columns_that_say_nothing_are_left_out() -> None:
    matrix = fit(catalog(3, tempo=[100, 100, 100], energy=[0, 1, 0.5], explicit=[0, 0, 0], year=[None, None, None]))
    assert matrix.names == ("energy",)


def test_artists_with_the_same_sound_are_close() -> None:
    energy = [0.1, 0.12, 0.11, 0.1, 0.9, 0.88]
    matrix = fit(catalog(6, artist=["quiet", "quiet", "calm", "calm", "loud", None], energy=energy, danceability=energy))
    first = np.array(column(matrix, "artist 0"))
    assert first[0] == first[1]
    assert first[2] == first[3]
    assert abs(first[0] - first[2]) < abs(first[0] - first[4]) / 5
    assert first[5] == 0.0


def test_an_artist_is_what_people_hold_of_it() -> None:
    described = catalog(4, artist=["a", "a", "b", "b"], energy=[0, 1, 1, 1])
    table = pl.DataFrame({"playlist_index": range(9), "track_index": [1] * 9, "position": [0] * 9, "plays": [1] * 9}, schema=INTERACTIONS)
    held = Interactions.from_parts([table], table.height, ("",) * 9, 4)
    nobody = np.ptp(fit(described, artist_components=1).values[:, -1])
    assert np.ptp(ContentRecipe(artist_components=1).fit(described, held).values[:, -1]) < nobody / 2


numbers = st.one_of(st.none(), st.floats(-100, 100, width=32), st.just(float("nan")), st.just(float("inf")))
rows = st.tuples(numbers, numbers, st.sampled_from([None, 0, 1]), st.sampled_from([None, "a", "b"]), st.sampled_from([None, "x", "y"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, min_size=1, max_size=12), st.sampled_from(["min-max", "robust"]))
def test_whatever_is_known_the_matrix_is_finite_varies_and_repeats(known: list[tuple[Any, ...]], scaling: str) -> None:
    energy, tempo, mode, artist, genre = (list(values) for values in zip(*known, strict=True))
    described = catalog(len(known), energy=energy, tempo=tempo, mode=mode, artist=artist, genre=genre)
    matrix = fit(described, scaling=scaling)
    assert matrix.values.shape == (len(known), len(matrix.names))
    assert np.isfinite(matrix.values).all()
    assert (np.ptp(matrix.values, axis=0) > 0).all()
    assert np.array_equal(matrix.values, fit(described, scaling=scaling).values)


def test_a_category_that_is_no_int32_is_not_known() -> None:
    matrix = fit(catalog(3, key=[1.0, 1e30, 2.0], energy=[0.1, 0.5, 0.9]))
    assert {name for name in matrix.names if name.startswith("key")} == {"key=1", "key=2"}


def test_a_recipe_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValidationError, match="scalling"):
        ContentRecipe(scalling="robust")  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="scaling"):
        ContentRecipe(scaling="log")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "feature", "group"),
    [
        ("energy", "energy", "audio"),
        ("key=0", "key", "audio"),
        ("genre=hip hop=rap", "genre", "genre"),
        ("artist 12", "artist", "artist"),
        ("duration_ms", "duration_ms", "duration"),
        ("missing audio", "missing", "missing"),
    ],
)
def test_a_column_says_which_feature_and_group_it_is_part_of(column: str, feature: str, group: str) -> None:
    assert (feature_of(column), group_of(column)) == (feature, group)
