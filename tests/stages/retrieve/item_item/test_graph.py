from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.retrieve.item_item.model import GraphRecipe
from stages.retrieve.item_item.training import graph
from tests import worlds
from tests.contracts import QUICK, RetrieverContract

NUM_TRACKS = 9
HELD = st.lists(st.lists(st.integers(0, NUM_TRACKS - 2), min_size=1, max_size=6, unique=True), min_size=1, max_size=8)


class TestGraph(RetrieverContract):
    recipe = GraphRecipe()


def two_steps(held: list[list[int]], p: float, a: float, b: float) -> np.ndarray:
    """s_ij as the module's docstring writes it."""
    counts = [sum(track in playlist for playlist in held) for track in range(NUM_TRACKS)]
    weights = np.zeros((NUM_TRACKS, NUM_TRACKS))
    for playlist in held:
        for i in playlist:
            for j in playlist:
                if i != j:
                    weights[i, j] += len(playlist) ** -p * counts[i] ** -a * counts[j] ** -b
    return weights


@QUICK
@given(
    held=HELD,
    p=st.sampled_from([0.0, 1.0]),
    a=st.sampled_from([0.0, 0.5]),
    b=st.sampled_from([0.4, 1.0]),
    steps=st.sampled_from([1, 8, 1000]),
)
def test_the_weights_are_those_of_two_steps(held: list[list[int]], p: float, a: float, b: float, steps: int) -> None:
    recipe = GraphRecipe(playlist_exponent=p, seed_exponent=a, candidate_exponent=b)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "BLOCK_STEPS", steps)
        found = recipe.fit(worlds.visible(worlds.interactions(held, NUM_TRACKS)))
    np.testing.assert_allclose(found.weights.toarray(), two_steps(held, p, a, b), rtol=1e-5)


@QUICK
@given(held=HELD, keep=st.integers(1, 4))
def test_the_largest_of_each_row_are_kept(held: list[list[int]], keep: int) -> None:
    data = worlds.visible(worlds.interactions(held, NUM_TRACKS))
    whole, kept = (GraphRecipe(neighbours=n).fit(data).weights.toarray() for n in (NUM_TRACKS, keep))
    for row, all_of_row in zip(kept, whole, strict=True):
        np.testing.assert_array_equal(np.sort(row)[::-1][:keep], np.sort(all_of_row)[::-1][:keep])
        assert np.count_nonzero(row) <= keep


def test_a_popular_seed_is_walked_through_a_sample_that_stands_for_all() -> None:
    held = worlds.interactions([[0, 1]] * 40, 2)
    few, whole = (GraphRecipe(most_playlists=most).fit(worlds.visible(held)).weights for most in (10, 1000))
    np.testing.assert_allclose(few.toarray(), whole.toarray(), rtol=1e-5)
