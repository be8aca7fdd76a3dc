"""An older model that a training starts warm from: what it decided stands, what it learned is where the sources begin.

Input: an artifact, and the run of a training on newer data. Output: its settings, fusion and ranker as finished phases of that
run, so that nothing is masked and no tree is grown; and each of its sources, by the new vocabulary. Knows no Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.artifact import Artifact, open_artifact
from engine.config import Config
from engine.model import config_of, open_names, open_second_stage, open_source, source_names
from engine.train.autoconfig import ResolvedConfig
from engine.train.phases import RANKER, keep_fusion, keep_ranker, keep_settled
from engine.train.run_store import Run
from features.domain import SegueError
from features.vocabulary import Vocabulary
from stages.resume import WarmStart

EFFORT = 0.25
"""The share of the sweeps and epochs that a warm source takes."""


@dataclass(frozen=True)
class PreviousModel:
    """An artifact that is there, and how much of a whole fit its sources still take."""

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
        """By which a run that starts from it is known again."""
        return self.version, str(self.effort)

    @property
    def config(self) -> Config:
        """With every choice made."""
        return config_of(self._artifact())

    def begin(self, run: Run) -> None:
        """What needs no training any more is finished; the older figures, of other sources, are not repeated."""
        if run.has(RANKER):
            return
        artifact = self._artifact()
        second = open_second_stage(artifact)
        assert second.ranker is not None
        keep_settled(run, ResolvedConfig(self.config, {"from": {"version": self.version, "effort": self.effort}}))
        keep_fusion(run, second.fusion)
        keep_ranker(run, second.ranker, {})

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
