"""What pydantic found wrong with a config, a manifest or a saved setting, as one line a person can act on.

Input: a ValidationError and the model that raised it, or a JSON file and the model it should be. Output: the model, or one line,
`name.of.key: expected …, found …`; an unknown key gets the key that was probably meant and the list of those there are. Knows no
setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from features.domain import SegueError
from features.reading import RETRAIN, reading

Model = TypeVar("Model", bound=BaseModel)

SHOWN = 3
"""Mistakes named in one line; of further ones only the number."""
LONGEST = 80
"""Characters of a wrong value that are shown."""

Schema = dict[str, Any]


def in_one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first mistakes that validating with `model` found, with their keys and values; no full stop at the end."""
    mistakes = error.errors()
    lines = [_mistake(one, model) for one in mistakes[:SHOWN]]
    more = [f"and {len(mistakes) - SHOWN} more"] if len(mistakes) > SHOWN else []
    return "; ".join([*lines, *more])


def read_json(path: Path, model: type[Model], expected: str, repair: str = RETRAIN) -> Model:
    """The JSON in the file at `path` as a `model`; a SegueError that says what was `expected` for any other file, for keys and values
    the model does not know, and for values nested too deeply."""
    with reading(path, expected, repair):
        raw = path.read_bytes()
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise SegueError(f"{path}: expected {expected}, found {in_one_line(error, model)}. {repair}") from error


def _mistake(one: ErrorDetails, model: type[BaseModel]) -> str:
    place = ".".join(map(str, one["loc"]))
    said = " ".join(one["msg"].split()).removeprefix("Value error, ")
    expected = f"expected {rest}" if (rest := said.removeprefix("Input should be ")) != said else said
    found = "" if one["type"] in ("missing", "json_invalid") or "found " in expected else f", found {_short(one['input'])}"
    known = _known_keys(one["loc"], model) if one["type"] == "extra_forbidden" else ""
    return f"{place}: {expected}{found}{known}" if place else f"{expected}{found}"


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"


def _known_keys(place: Sequence[str | int], model: type[BaseModel]) -> str:
    """Beside an unknown key: the one that looks like it, and all there are."""
    keys = _keys_at(place[:-1], model.model_json_schema())
    close = [f" (did you mean {key}?)" for key in get_close_matches(str(place[-1]), keys, 1)]
    return f"{''.join(close)}. The keys are {', '.join(keys)}" if keys else ""


def _keys_at(place: Sequence[str | int], schema: Schema) -> list[str]:
    here = [schema]
    for part in place:
        here = [below for one in here for whole in _alternatives(one, schema) for below in _below(whole, str(part))]
    return list(dict.fromkeys(key for one in here for whole in _alternatives(one, schema) for key in whole.get("properties", {})))


def _alternatives(schema: Schema, root: Schema) -> Iterator[Schema]:
    """A schema with its reference followed, or each of the schemas of a union."""
    if "$ref" in schema:
        yield from _alternatives(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    elif choices := schema.get("anyOf") or schema.get("oneOf"):
        for choice in choices:
            yield from _alternatives(choice, root)
    else:
        yield schema


def _below(schema: Schema, part: str) -> Iterator[Schema]:
    """What a part of a mistake's place leads to: a key, an element, or the one of a union that has this `kind`."""
    properties = schema.get("properties", {})
    if part in properties:
        yield properties[part]
    elif properties.get("kind", {}).get("const") == part:
        yield schema
    elif isinstance(further := schema.get("additionalProperties", schema.get("items")), dict):
        yield further
