from __future__ import annotations

import numpy as np
import pytest

from features.domain import SegueError
from stages.retrieve.content.recipes import CosineRecipe, GroupWeights
from tests import worlds
from tests.contracts import RetrieverContract, board

NOTHING = GroupWeights(**dict.fromkeys(GroupWeights.model_fields, 0.0))
NAMES = ("energy", "genre=rock", "genre=jazz", "mood 0")


class TestCosine(RetrieverContract):
    recipe = CosineRecipe()
    has_vectors = True
    proposes_cold = True
    needs_nobody = True
    needs_content = True


def vectors(
    rows: list[list[float]], names: tuple[str, ...] = NAMES, dim: int = 64, whitened: tuple[str, ...] = (), **weights: float
) -> np.ndarray:
    """Of tracks that are what `rows` say, only the groups of `weights` counting."""
    world = worlds.visible(worlds.interactions([[]], len(rows)), content=np.array(rows, np.float32), names=names)
    recipe = CosineRecipe(dim=dim, whitened=whitened, weights=NOTHING.model_copy(update=weights))
    return recipe.fit(world).track_vectors


TRACKS = [[0.1, 1, 0, 0], [0.9, 1, 0, 0], [0.1, 0, 1, 0], [0.9, 0, 1, 0]]


def test_the_heavier_group_decides_who_is_alike() -> None:
    sound, genre = (vectors(TRACKS, **weights) for weights in ({"audio": 2, "genre": 1}, {"audio": 1, "genre": 2}))
    assert sound[0] @ sound[2] > 0 > sound[0] @ sound[1]
    assert genre[0] @ genre[1] > 0 > genre[0] @ genre[2]


def test_cosines_are_those_of_the_weighted_groups() -> None:
    found = vectors(TRACKS, audio=3, genre=4)
    assert found[0] @ found[1] == pytest.approx((16 - 9) / 25, abs=1e-5)  # two columns of genre weigh as much as one


def test_a_group_of_weight_0_is_as_if_it_were_not_there() -> None:
    found = vectors(TRACKS, genre=1)
    np.testing.assert_allclose(found @ found.T, [[1, 1, -1, -1], [1, 1, -1, -1], [-1, -1, 1, 1], [-1, -1, 1, 1]], atol=1e-5)


def test_a_group_without_a_weight_of_its_own_weighs_1() -> None:
    found = vectors([[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, -1]])
    assert found[0] @ found[1] == pytest.approx(1, abs=1e-5)
    assert found[0] @ found[2] == pytest.approx(-1, abs=1e-5)


def test_whitened_columns_that_say_the_same_count_once() -> None:
    random = np.random.default_rng(0)
    sound, mood = random.normal(size=(2, 200, 1))
    doubled = vectors(
        np.concatenate([sound, sound, sound, mood], axis=1).tolist(),
        ("energy", "loudness", "valence", "tempo"),
        whitened=("audio",),
        audio=1,
    )
    plain = vectors(np.concatenate([sound, mood], axis=1).tolist(), ("energy", "tempo"), whitened=("audio",), audio=1)
    np.testing.assert_allclose(doubled @ doubled.T, plain @ plain.T, atol=1e-3)


def test_columns_that_are_not_whitened_keep_their_proportions() -> None:
    found = vectors([[3, 4], [-3, 4], [3, -4], [-3, -4]], ("energy", "tempo"), audio=1)
    assert found[0] @ found[1] == pytest.approx((16 - 9) / 25, abs=1e-5)


def test_a_group_nobody_has_heard_of_is_refused() -> None:
    with pytest.raises(SegueError, match="artist"):
        CosineRecipe(whitened=("artists",))


def test_few_dimensions_keep_what_varies_most() -> None:
    few = vectors(TRACKS, dim=1, audio=1, genre=5)
    assert few.shape == (4, 1)
    assert few[0] @ few[1] == pytest.approx(1, abs=1e-5)


def test_content_that_is_no_number_is_not_compared() -> None:
    with pytest.raises(SegueError, match="content vectors: expected finite numbers, found"):
        TestCosine.recipe.fit(board().but(content=np.full((board().num_tracks, 2), np.nan, np.float32)))
