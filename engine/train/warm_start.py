"""A warm start: a previous model's settings, fusion and ranker stand, and its sources are where the new ones begin.

Input: an artifact. Output: what a training takes from it: the config with every choice made, the fusion, the ranker, and each source
with its tracks by the new vocabulary. It travels to the workers as a path. Knows no Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.artifact import Artifact, open_artifact
from engine.config import Config
from engine.model import config_of, open_names, open_second_stage, open_source, source_names
from engine.train.autoconfig import ResolvedConfig
from features.domain import SegueError
from features.vocabulary import Vocabulary
from stages.rank.fusion import Fusion
from stages.rank.lambdamart import LambdaMart
from stages.resume import WarmStart

EFFORT = 0.25
"""The share of the sweeps and epochs that a warm source takes."""


@dataclass(frozen=True)
class PreviousModel:
    """An artifact that is there, and the share of a whole fit that its sources still take."""

    path: Path
    """On a cluster one that every worker sees."""
    version: str
    effort: float

    @classmethod
    def at(cls, path: Path, effort: float = EFFORT) -> PreviousModel:
        if not 0 < effort <= 1:
            raise SegueError(f"--effort: expected more than 0 and at most 1, found {effort}")
        return cls(path.absolute(), open_artifact(path).manifest.version, effort)

    @property
    def names(self) -> tuple[str, str]:
        """What tells a run that starts from it from others."""
        return self.version, str(self.effort)

    @property
    def config(self) -> Config:
        """With every choice made."""
        return config_of(self._artifact())

    @property
    def resolved(self) -> ResolvedConfig:
        return ResolvedConfig(self.config, {"from": {"version": self.version, "effort": self.effort}})

    def ranking(self) -> tuple[Fusion, LambdaMart]:
        second = open_second_stage(self._artifact())
        assert second.ranker is not None
        return second.fusion, second.ranker

    def sources(self, vocabulary: Vocabulary) -> Mapping[str, WarmStart]:
        """By name, each source, and where it has the tracks of `vocabulary`."""
        artifact = self._artifact()
        rows = open_names(artifact).vocabulary.index_of(vocabulary.track_ids.to_list())
        return {name: WarmStart(open_source(artifact, name), rows) for name in source_names(artifact)}

    def _artifact(self) -> Artifact:
        """By sizes: it was read whole when the training began."""
        artifact = open_artifact(self.path, verify="size")
        if artifact.manifest.version != self.version:
            found = artifact.manifest.version
            raise SegueError(f"{self.path}: expected the model {self.version}, found {found}: it was replaced meanwhile. Train again")
        return artifact
