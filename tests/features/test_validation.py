"""What pydantic found wrong is one line: where, what was expected, what was found, and which keys there are."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from features.validation import in_one_line


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Trees(Part):
    kind: Literal["trees"] = "trees"
    num_trees: int = Field(10, ge=1)


class Lines(Part):
    kind: Literal["lines"] = "lines"
    slope: float = 1.0


class Whole(Part):
    seed: int
    model: Annotated[Trees | Lines, Field(discriminator="kind")] = Trees()
    by_name: dict[str, Trees] = {}
    in_order: tuple[Trees, ...] = ()
    perhaps: Lines | None = None

    @model_validator(mode="after")
    def _seed_is_no_negative_number(self) -> "Whole":
        if self.seed < 0:
            raise ValueError("expected a seed of 0 or more, found a negative one")
        return self


def line(values: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(values)
    return in_one_line(caught.value, Whole)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "seed: Field required"),
        ({"seed": "x"}, "seed: expected a valid integer, unable to parse string as an integer, found 'x'"),
        ({"seed": 1, "model": {"kind": "trees", "num_trees": 0}}, "model.trees.num_trees: expected greater than or equal to 1, found 0"),
        ({"seed": -1}, "expected a seed of 0 or more, found a negative one"),
        ([], "expected a valid dictionary or instance of Whole, found []"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(values: object, expected: str) -> None:
    assert line(values) == expected


@pytest.mark.parametrize(
    ("values", "place", "meant", "keys"),
    [
        ({"sed": 1, "seed": 1}, "sed", "seed", "seed, model, by_name, in_order, perhaps"),
        ({"seed": 1, "model": {"kind": "trees", "num_tree": 3}}, "model.trees.num_tree", "num_trees", "kind, num_trees"),
        ({"seed": 1, "model": {"kind": "lines", "slop": 3}}, "model.lines.slop", "slope", "kind, slope"),
        ({"seed": 1, "by_name": {"a": {"num_trees": 3, "kid": 3}}}, "by_name.a.kid", "kind", "kind, num_trees"),
        ({"seed": 1, "in_order": [{"n_trees": 3}]}, "in_order.0.n_trees", "num_trees", "kind, num_trees"),
        ({"seed": 1, "perhaps": {"slopes": 3}}, "perhaps.slopes", "slope", "kind, slope"),
    ],
)
def test_an_unknown_key_comes_with_the_one_meant_and_all_there_are(values: object, place: str, meant: str, keys: str) -> None:
    found = line(values)
    assert found.startswith(f"{place}: Extra inputs are not permitted, found ")
    assert found.endswith(f" (did you mean {meant}?). The keys are {keys}")


def test_a_key_like_no_other_comes_with_the_list_alone() -> None:
    assert line({"seed": 1, "zzz": 2}) == (
        "zzz: Extra inputs are not permitted, found 2. The keys are seed, model, by_name, in_order, perhaps"
    )


def test_many_mistakes_and_long_values_are_one_short_line() -> None:
    found = line({"seed": "x\n" * 500, **{f"unknown{i}": 1 for i in range(10)}})
    assert "\n" not in found
    assert found.endswith("and 8 more")
    assert "xxxxx" not in found
    assert len(found) < 700


def test_text_that_is_no_json_is_called_that() -> None:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate_json("[")
    assert in_one_line(caught.value, Whole).startswith("Invalid JSON: ")
