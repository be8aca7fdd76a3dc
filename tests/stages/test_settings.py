"""A renamed key is refused with its new name, and translated where an artifact of an earlier version is opened."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from engine.config import Config
from features.domain import SegueError
from stages.rank.lambdamart import LambdaMartRecipe
from stages.retrieve.als import AlsRecipe
from stages.retrieve.catalogue import RelatedRecipe
from stages.retrieve.content import CosineRecipe
from stages.retrieve.factorization import FactorizationRecipe
from stages.retrieve.index import IndexRecipe
from stages.settings import OLD_NAMES_ALLOWED, Settings

RENAMED: dict[type[Settings], dict[str, tuple[str, Any]]] = {
    AlsRecipe: {"dim": ("factors", 3), "confidence": ("alpha", 2.0), "sweeps": ("iterations", 4)},
    FactorizationRecipe: {"dim": ("factors", 3)},
    RelatedRecipe: {"factors": ("als", AlsRecipe(factors=3))},
    IndexRecipe: {"trees": ("n_trees", 3), "search_nodes": ("search_k", 40)},
    LambdaMartRecipe: {
        "trees": ("num_iterations", 3),
        "leaves": ("num_leaves", 4),
        "least_examples_per_leaf": ("min_data_in_leaf", 5),
        "feature_share": ("feature_fraction", 0.5),
        "row_share": ("bagging_fraction", 0.6),
        "truncation": ("lambdarank_truncation_level", 7),
        "kept_every": ("checkpoint_every", 8),
    },
}
EACH = [(model, old, new, value) for model, keys in RENAMED.items() for old, (new, value) in keys.items()]
OF_02 = {
    "sources": {
        "als": {"dim": 40, "sweeps": 20, "confidence": 10, "index": {"kind": "annoy", "trees": 30, "search_nodes": 30_000}},
        "related": {"factors": {"dim": 8, "sweeps": 2}},
        "more": {"kind": "factorization", "dim": 3},
    },
    "ranker": {"trees": 5, "leaves": 7},
    "alternatives": {},
}
"""Parts of a config as version 0.2 wrote it."""


def below(model: type[Settings]) -> Iterator[type[Settings]]:
    for one in model.__subclasses__():
        yield one
        yield from below(one)


def test_every_renamed_key_is_tried_here() -> None:
    assert {model: model.old_names for model in below(Settings) if model.old_names} == {
        model: {old: new for old, (new, _) in keys.items()} for model, keys in RENAMED.items()
    }


@pytest.mark.parametrize(("model", "old", "new", "value"), EACH)
def test_an_old_key_is_refused_with_the_new_one(model: type[Settings], old: str, new: str, value: Any) -> None:
    with pytest.raises(SegueError) as caught:
        model(**{old: value})
    assert str(caught.value) == f"{model.__name__}: {old}: expected {new}, the name since 0.3, found {old}"


@pytest.mark.parametrize(("model", "old", "new", "value"), EACH)
def test_an_old_key_is_translated_where_old_names_are_allowed(model: type[Settings], old: str, new: str, value: Any) -> None:
    given = value.model_dump() if isinstance(value, Settings) else value
    assert model.model_validate({old: given}, context=OLD_NAMES_ALLOWED) == model(**{new: value})


def test_a_whole_config_is_translated_at_every_depth() -> None:
    config = Config.model_validate(OF_02, context=OLD_NAMES_ALLOWED)
    als, related, more = config.sources.als, config.sources.related, config.sources.recipes()["more"]
    assert als == AlsRecipe(factors=40, iterations=20, alpha=10, index=IndexRecipe(kind="annoy", n_trees=30, search_k=30_000))
    assert related == RelatedRecipe(als=AlsRecipe(factors=8, iterations=2))
    assert more == FactorizationRecipe(factors=3)
    assert config.ranker == LambdaMartRecipe(num_iterations=5, num_leaves=7)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"sources": {"als": {"sweeps": 3, "dim": 8}}},
            "sources.als.sweeps: expected iterations, the name since 0.3, found sweeps; "
            "sources.als.dim: expected factors, the name since 0.3, found dim",
        ),
        ({"sources": {"als": {"index": {"trees": 3}}}}, "sources.als.index.trees: expected n_trees, the name since 0.3, found trees"),
        (
            {"sources": {"more": {"kind": "factorization", "dim": 3}}},
            "sources.more.factorization.dim: expected factors, the name since 0.3",
        ),
        ({"ranker": {"leaves": 3}}, "ranker.leaves: expected num_leaves, the name since 0.3, found leaves"),
        ({"alternatives": {"als": [{"dim": 8}]}}, "alternatives.als.dim: expected factors, the name since 0.3, found dim"),
    ],
)
def test_in_a_config_the_whole_path_to_the_key_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SegueError) as caught:
        Config(**values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_from_python_is_one_line_with_the_name_that_was_meant() -> None:
    with pytest.raises(SegueError, match=r"^AlsRecipe: iteration: .*, found 3 \(did you mean iterations\?\)") as caught:
        AlsRecipe(iteration=3)  # type: ignore[call-arg]
    assert "\n" not in str(caught.value)


def test_a_wrong_value_from_python_is_one_line() -> None:
    with pytest.raises(SegueError, match=r"^AlsRecipe: factors: expected greater than or equal to 1, found 0$"):
        AlsRecipe(factors=0)


def test_a_wrong_value_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="factors"):
        AlsRecipe(factors=0)


def test_a_part_of_a_larger_model_is_refused_by_that_model() -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"sources": {"als": {"factors": 0}}})
    assert [error["loc"] for error in caught.value.errors()] == [("sources", "als", "factors")]


def test_settings_are_frozen_hashable_and_can_be_sent_to_another_process() -> None:
    recipe = AlsRecipe(factors=3, index=IndexRecipe(kind="exact"))
    with pytest.raises(ValidationError, match="frozen"):
        recipe.factors = 4  # type: ignore[misc]
    assert len({recipe, AlsRecipe(factors=3, index=IndexRecipe(kind="exact"))}) == 1
    assert pickle.loads(pickle.dumps(recipe)) == recipe


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        (AlsRecipe(), "AlsRecipe()"),
        (AlsRecipe(factors=64, alpha=10), "AlsRecipe(factors=64, alpha=10.0)"),
        (CosineRecipe(index=IndexRecipe(kind="exact")), "CosineRecipe(index=IndexRecipe(kind='exact'))"),
    ],
)
def test_settings_are_shown_by_what_differs_from_the_defaults(settings: Settings, shown: str) -> None:
    assert repr(settings) == shown
