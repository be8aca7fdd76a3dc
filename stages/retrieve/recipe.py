"""A recipe says how to train one retriever. It is data: small, frozen, read from the config, saved in the artifact.

Input: settings. Output: with data, a trained source; with a folder, a saved source, opened again. Training is a function of the
training side (`stages.retrieve.fitting`), which needs torch; opening is a method here, which does not. Knows no Ray.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from importlib import import_module
from pathlib import Path
from typing import cast

from features.dataset import Dataset
from features.frames import Pairs
from features.interactions import Interactions
from features.progress import Progress, silent
from stages.retrieve.source import Source
from stages.settings import Settings
from stages.training_data import TrainingData


class Recipe(Settings):
    """The settings of one kind of retriever."""

    kind: str

    def fit(self, data: TrainingData | Dataset | Interactions | Pairs, report: Progress = silent) -> Source:
        """Trains a source; the same as `stages.retrieve.fitting.fit(self, data, report)`, which says what `data` may be."""
        # No import statement: it would tie every server, which opens recipes, to torch, and close an import cycle.
        fitting = import_module("stages.retrieve.fitting")
        return cast(Source, fitting.fit(self, data, report))

    def open(self, folder: str | os.PathLike[str], num_tracks: int) -> Source:
        """The source that was saved into `folder`, its large arrays mapped into memory; SegueError where it is damaged."""
        return self.read(Path(folder), num_tracks)

    @abstractmethod
    def read(self, folder: Path, num_tracks: int) -> Source:
        """What `open` promises."""
