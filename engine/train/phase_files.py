"""How the result of each phase of a training is written to files.

    settled     the config without open choices, and why      settled.json
    fusion      the weights of the fusion                      fusion.json
    examples    one worker's examples of one fold              examples.npz
    ranker      the ranker, and the figures of its check       ranker.txt, figures.json
    a source    its own files, and its entry in the manifest   files/, said.json

Input: a result and an empty folder. Output: its files; opened again, the same result. Knows no phase's computation and no Ray.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.config import Config, Recipe
from engine.train.autoconfig import ResolvedConfig
from engine.train.phase_store import Folder
from features.domain import Floats, Queries, Retrieved
from features.sealed import copy_part
from stages.protocols import Retriever
from stages.rank.examples import Examples
from stages.rank.fusion import Fusion
from stages.rank.lambdamart import FILE as RANKER_FILE
from stages.rank.lambdamart import LambdaMart

SETTLED_FILE, WEIGHTS, FIGURES, EXAMPLES_FILE = "settled.json", "fusion.json", "figures.json", "examples.npz"
SOURCE_FILES, SOURCE_ENTRY = "files", "said.json"


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, default=lambda array: array.tolist()), encoding="utf-8")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


class ConfigFiles:
    """The config without open choices."""

    def save(self, result: ResolvedConfig, folder: Path) -> None:
        _write(folder / SETTLED_FILE, [result.config.model_dump(mode="json"), result.reasons])

    def open(self, folder: Folder) -> ResolvedConfig:
        config, reasons = _read(folder() / SETTLED_FILE)
        return ResolvedConfig(Config.model_validate(config), reasons)


class FusionFiles:
    """The weights of the fusion, by source."""

    def save(self, result: Fusion, folder: Path) -> None:
        _write(folder / WEIGHTS, dict(result.weights))

    def open(self, folder: Folder) -> Fusion:
        return Fusion(_read(folder() / WEIGHTS))


class ExamplesFiles:
    """The examples of one worker."""

    def save(self, result: Examples, folder: Path) -> None:
        result.save(folder / EXAMPLES_FILE)

    def open(self, folder: Folder) -> Examples:
        return Examples.open(folder() / EXAMPLES_FILE)


@dataclass(frozen=True)
class CheckedRanker:
    """A ranker, and what it came to on playlists that it learned nothing of."""

    ranker: LambdaMart
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class RankerFiles:
    """A ranker that will use so many `threads`, and its figures."""

    threads: int

    def save(self, result: CheckedRanker, folder: Path) -> None:
        result.ranker.save(folder)
        _write(folder / FIGURES, dict(result.figures))

    def open(self, folder: Folder) -> CheckedRanker:
        text = (folder() / RANKER_FILE).read_text(encoding="utf-8")
        return CheckedRanker(LambdaMart(text, self.threads), _read(folder() / FIGURES))


@dataclass(frozen=True)
class SourceFiles:
    """A source that `recipe` made."""

    recipe: Recipe
    num_tracks: int

    def save(self, result: Retriever, folder: Path) -> None:
        (folder / SOURCE_FILES).mkdir()
        _write(folder / SOURCE_ENTRY, result.save(folder / SOURCE_FILES))

    def open(self, folder: Folder) -> Retriever:
        return SavedSource(folder, self.recipe, self.num_tracks)


@dataclass(frozen=True)
class SavedSource:
    """A trained source in files: opened when it first retrieves; saved again it is the same files and the same manifest entry.

    Every process that opens it maps the same memory, and a run that was resumed holds what an undisturbed one does.
    """

    folder: Folder
    recipe: Recipe
    num_tracks: int

    @cached_property
    def _opened(self) -> Retriever:
        return self.recipe.open(self.folder() / SOURCE_FILES, self.num_tracks)

    @property
    def track_vectors(self) -> Floats | None:
        return self._opened.track_vectors

    @property
    def track_biases(self) -> Floats | None:
        return self._opened.track_biases

    def retrieve(self, queries: Queries, n: int) -> Retrieved:
        return self._opened.retrieve(queries, n)

    def save(self, folder: Path) -> dict[str, Any]:
        copy_part(self.folder(), SOURCE_FILES, folder)
        entry: dict[str, Any] = _read(self.folder() / SOURCE_ENTRY)
        return entry
