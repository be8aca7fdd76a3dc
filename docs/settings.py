"""Writes the tables of docs/settings.md from the settings' own classes, so that no default is typed by hand.

    python docs/settings.py          rewrite the page
    python docs/settings.py --check  exit 1 if the page differs from the classes

Input: the pydantic models of `engine.config` and `engine.serve.app`: a field's name, its default, and the docstring below it,
or that of its own class where it is a table of settings. Output: the text between `<!-- NAME -->` and `<!-- /NAME -->`. A setting
without either is an error.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.config import Config, Recipe, SourcesConfig
from engine.serve.app import ServeArgs

PAGE = Path(__file__).with_suffix(".md")
Model = type[BaseModel]
IN_EVERY_NETWORK = {
    "epochs": "Passes over the training data.",
    "batch_size": "Rows of one training step.",
    "learning_rate": "Step size at the beginning of the training.",
}
"""What these settings mean in every model that learns in epochs, unless a docstring says more."""


def training() -> str:
    """Every setting of `segue train --config`: the parts of Config, then a section for each kind of retriever."""
    top = [name for name, field in Config.model_fields.items() if _model_of(field) is None]
    parts = {name: part for name, field in Config.model_fields.items() if (part := _model_of(field)) and part is not SourcesConfig}
    recipes = list(_recipes())
    nested = {name: model for recipe in recipes for name, model in _nested(recipe).items()}
    return "\n\n".join(
        [
            _section("top level", "", _rows(Config, top)),
            *(_section(name, _summary(part), _rows(part)) for name, part in parts.items()),
            _section("sources", _summary(SourcesConfig), _rows(SourcesConfig)),
            *(_section(_kind(recipe), _summary(recipe), _rows(recipe, skip="kind")) for recipe in recipes),
            *(_section(name, _summary(model), _rows(model)) for name, model in nested.items()),
        ]
    )


def serving() -> str:
    """Every setting below `args:` in serve_config.yaml."""
    return _table(_rows(ServeArgs))


SECTIONS: Mapping[str, Callable[[], str]] = {"training": training, "serving": serving}


def _recipes() -> Iterator[Model]:
    """Every kind of retriever, in the order of the union of their types."""
    union, *_ = get_args(Recipe)
    yield from get_args(union)


def _nested(recipe: Model) -> dict[str, Model]:
    """The settings of a recipe that are tables of their own, except for other recipes."""
    found = {name: _model_of(field) for name, field in recipe.model_fields.items()}
    return {name: model for name, model in found.items() if model and not _is_recipe(model) and _docstrings(model)}


def _is_recipe(model: Model) -> bool:
    """Only a recipe says of which kind it is, and only of one."""
    return "kind" in model.model_fields and len(_choices(model.model_fields["kind"])) == 1


def _model_of(field: FieldInfo) -> Model | None:
    default = field.get_default(call_default_factory=True)
    return type(default) if isinstance(default, BaseModel) else None


def _kind(recipe: Model) -> str:
    return str(recipe.model_fields["kind"].default)


def _summary(model: Model) -> str:
    return " ".join((inspect.getdoc(model) or "").split("\n\n")[0].split())


def _rows(model: Model, only: list[str] | None = None, skip: str = "") -> list[list[str]]:
    texts = _docstrings(model)
    return [
        [f"`{name}`", _default(name, field), _line(model, name, field, texts.get(name, ""))]
        for name, field in model.model_fields.items()
        if name != skip and (only is None or name in only)
    ]


def _default(name: str, field: FieldInfo) -> str:
    """A table of its own is linked; of another recipe only what differs from that recipe's defaults is shown."""
    value = field.get_default(call_default_factory=True)
    if not isinstance(value, BaseModel):
        return "none" if field.is_required() else f"`{json.dumps(value, default=_plain)}`"
    if not _is_recipe(type(value)) and not _docstrings(type(value)):
        return f"`{json.dumps(value.model_dump())}`"
    section = _kind(type(value)) if _is_recipe(type(value)) else name
    changed = value.model_dump(exclude_defaults=True)
    return f"[{section}](#{section})" + (f" with `{json.dumps(changed)}`" if changed else "")


def _plain(value: object) -> object:
    return value.model_dump() if isinstance(value, BaseModel) else str(value)


def _line(model: Model, name: str, field: FieldInfo, text: str) -> str:
    """What a setting means, with its possible values where they are few."""
    table = _model_of(field)
    text = text or IN_EVERY_NETWORK.get(name, "") or (_summary(table) if table else "")
    if not text:
        raise SystemExit(f"{model.__module__}.{model.__name__}.{name}: expected a docstring below the field, found none. Add one line")
    choices = _choices(field)
    meaning = " ".join(text.split()).replace("|", "\\|")
    return f"{meaning} One of {', '.join(f'`{choice}`' for choice in choices)}." if len(choices) > 1 else meaning


def _choices(field: FieldInfo) -> tuple[Any, ...]:
    types = [field.annotation, *(one for one in get_args(field.annotation) if one is not NoneType)]
    return next((get_args(one) for one in types if get_origin(one) is Literal), ())


def _docstrings(model: Model) -> dict[str, str]:
    """By field, the string that stands below it in the class or in a class it inherits from."""
    found: dict[str, str] = {}
    for owner in reversed([one for one in model.__mro__ if issubclass(one, BaseModel) and one is not BaseModel]):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        found |= dict(_below_fields(definition))
    return {name: text for name, text in found.items() if name in model.model_fields}


def _below_fields(definition: ast.stmt) -> Iterator[tuple[str, str]]:
    for field, below in pairwise(definition.body if isinstance(definition, ast.ClassDef) else []):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, text


def _section(name: str, summary: str, rows: list[list[str]]) -> str:
    return "\n\n".join(part for part in (f"### {name}", summary, _table(rows) if rows else "") if part)


def _table(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [["setting", "default", "meaning"], ["---"] * 3, *rows])


def written(text: str) -> str:
    """`text` with every section filled from the classes; a missing section is an error."""
    for name, render in SECTIONS.items():
        section = f"<!-- {name} -->\n{render()}\n<!-- /{name} -->"
        text, count = re.subn(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, new=section: new, text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{PAGE}: expected one section {name}, found {count}")
    return text


def main() -> None:
    before = PAGE.read_text(encoding="utf-8")
    after = written(before)
    if "--check" in sys.argv[1:] and after != before:
        raise SystemExit(f"{PAGE}: expected the settings of the code, found others. Run `python docs/settings.py`")
    PAGE.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
