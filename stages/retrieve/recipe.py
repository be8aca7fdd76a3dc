"""A recipe says how to train one retriever. It is data: small, frozen, read from the config, saved in the artifact.

Input: settings. Output: with data, a trained source; with a folder, a saved source, opened again. Training is a function of the
training side (`stages.retrieve.fitting`), which needs torch; opening is a method here, which does not. Knows no Ray.
"""

from __future__ import annotations

from abc import abstractmethod
from importlib import import_module
from pathlib import Path
from typing import cast

from features.progress import Progress, silent
from stages.protocols import Retriever
from stages.settings import Settings
from stages.training_data import TrainingData


class Recipe(Settings):
    """The settings of one kind of retriever."""

    kind: str

    def fit(self, data: TrainingData, report: Progress = silent) -> Retriever:
        """Trains a source; the same as `stages.retrieve.fitting.fit(self, data, report)`."""
        # No import statement: it would tie every server, which opens recipes, to torch, and close an import cycle.
        fitting = import_module("stages.retrieve.fitting")
        return cast(Retriever, fitting.fit(self, data, report))

    @abstractmethod
    def open(self, folder: Path, num_tracks: int) -> Retriever:
        """The source that was saved into `folder`, its large arrays mapped into memory; SegueError where it is damaged."""
