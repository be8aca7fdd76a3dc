"""What the finished phases of a training are in files.

Input: a run, and what a phase came to. Output: its folder; opened again, the same. A source's phase is called `stage/source`,
one worker's examples of a fold `examples N/rank`. Knows neither Ray nor how a phase is computed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config import Config
from engine.train.autoconfig import ResolvedConfig
from engine.train.run_store import Run
from stages.protocols import Retriever
from stages.rank.fusion import Fusion
from stages.rank.lambdamart import FILE as RANKER_FILE
from stages.rank.lambdamart import LambdaMart

SETTLED, FINAL, FUSION, RANKER = "settled", "final", "fusion", "ranker"
SETTLED_FILE, WEIGHTS, FIGURES = "settled.json", "fusion.json", "figures.json"
FILES, SAID = "files", "said.json"


def keep_settled(run: Run, settled: ResolvedConfig) -> None:
    with run.keep(SETTLED) as folder:
        (folder / SETTLED_FILE).write_text(json.dumps([settled.config.model_dump(mode="json"), settled.said]), encoding="utf-8")


def open_settled(run: Run) -> ResolvedConfig:
    config, said = json.loads((run.path(SETTLED) / SETTLED_FILE).read_text(encoding="utf-8"))
    return ResolvedConfig(Config.model_validate(config), said)


def keep_fusion(run: Run, fusion: Fusion) -> None:
    with run.keep(FUSION) as folder:
        (folder / WEIGHTS).write_text(json.dumps(dict(fusion.weights)), encoding="utf-8")


def open_fusion(run: Run) -> Fusion:
    return Fusion(json.loads((run.path(FUSION) / WEIGHTS).read_text(encoding="utf-8")))


def keep_ranker(run: Run, ranker: LambdaMart, figures: Mapping[str, Any]) -> None:
    """`figures`: of the check."""
    with run.keep(RANKER) as folder:
        ranker.save(folder)
        (folder / FIGURES).write_text(json.dumps(figures), encoding="utf-8")


def open_ranker(run: Run, threads: int) -> tuple[LambdaMart, dict[str, Any]]:
    """The ranker and the figures of the check."""
    figures: dict[str, Any] = json.loads((run.path(RANKER) / FIGURES).read_text(encoding="utf-8"))
    return LambdaMart((run.path(RANKER) / RANKER_FILE).read_text(encoding="utf-8"), threads), figures


def keep_source(run: Run, phase: str, source: Retriever) -> None:
    with run.keep(phase) as folder:
        (folder / FILES).mkdir()
        said = source.save(folder / FILES)
        (folder / SAID).write_text(json.dumps(said, default=lambda value: value.tolist()), encoding="utf-8")


@dataclass(frozen=True)
class KeptSource:
    """A trained source as its phase left it; saved again it is the same files and the same words."""

    folder: Path

    @property
    def files(self) -> Path:
        return self.folder / FILES

    def save(self, folder: Path) -> dict[str, Any]:
        shutil.copytree(self.files, folder, dirs_exist_ok=True)
        said: dict[str, Any] = json.loads((self.folder / SAID).read_text(encoding="utf-8"))
        return said
