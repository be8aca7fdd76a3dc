"""LambdaMART: gradient-boosted trees that learn the order of candidates, by the distributed LightGBM learner.

Input: examples in groups, one group per query. Output: a ranker that scores pair features. Burges, "From RankNet to
LambdaRank to LambdaMART" (2010); Ke et al., "LightGBM" (2017). Every worker holds whole queries; the parameters that
join the workers come from outside. LightGBM itself, large to import, is asked to learn and to explain, never to score.
Knows no retriever and no Ray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from features.domain import Floats, SegueError
from stages.protocols import Report, silent
from stages.rank.examples import Examples
from stages.rank.trees import Trees, line

FILE = "ranker.txt"
LAST_LINE = "pandas_categorical:null"
"""How LightGBM ends a model's text; it kills the process that reads one cut short."""


class LambdaMartRecipe(BaseModel):
    """Trees, leaves and how fast they learn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trees: int = Field(500, ge=1)
    leaves: int = Field(31, ge=2)
    learning_rate: float = Field(0.04, gt=0)
    least_examples_per_leaf: int = Field(50, ge=1)
    feature_share: float = Field(0.7, gt=0, le=1)
    row_share: float = Field(0.8, gt=0, le=1)
    truncation: int = Field(300, ge=1)
    """Pairs are compared where one of the two stands in the first so many."""
    max_bin: int = Field(127, ge=2)

    def fit(
        self,
        examples: Examples,
        seed: int,
        threads: int,
        network: Mapping[str, Any] | None = None,
        report: Report = silent,
    ) -> LambdaMart:
        """`network`: LightGBM's own parameters that join several workers, each with its share of the groups."""
        if not examples.labels.any():
            raise SegueError(
                f"ranker: expected examples with at least one hit, found {len(examples.labels)} pairs and no hit. "
                "Too few playlists, or no source proposes what they hold. Give more playlists"
            )
        import lightgbm

        data = lightgbm.Dataset(
            examples.features, examples.labels, group=examples.groups, feature_name=list(examples.names), free_raw_data=True
        )
        booster = lightgbm.train(self._parameters(seed, threads, network), data, self.trees, callbacks=[self._progress(report)])
        if network:
            booster.free_network()
        return LambdaMart(booster.model_to_string(), threads)

    def _parameters(self, seed: int, threads: int, network: Mapping[str, Any] | None) -> dict[str, Any]:
        distributed = {"tree_learner": "data_parallel", "pre_partition": True, **network} if network else {}
        return {
            "objective": "lambdarank",
            "learning_rate": self.learning_rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.least_examples_per_leaf,
            "feature_fraction": self.feature_share,
            "bagging_fraction": self.row_share,
            "bagging_freq": 1,
            "lambdarank_truncation_level": self.truncation,
            "max_bin": self.max_bin,
            "seed": seed,
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": threads,
            "verbosity": -1,
            **distributed,
        }

    def _progress(self, report: Report) -> Any:
        def show(env: Any) -> None:
            report("ranker", (env.iteration + 1) / self.trees, {"trees": float(env.iteration + 1)})

        return show


@dataclass(frozen=True)
class LambdaMart:
    """Trained: the trees, as LightGBM writes them."""

    text: str
    threads: int = 1
    """Of an explanation."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns the trees were trained on."""
        return tuple(line(self.text, "feature_names").split())

    @cached_property
    def trees(self) -> Trees:
        return Trees.of(self.text)

    @cached_property
    def booster(self) -> Any:
        """LightGBM's own; it knows more of the trees than where a row falls."""
        import lightgbm

        return lightgbm.Booster(model_str=self.text)

    def score(self, features: Floats) -> Floats:
        """`features` (num_pairs, num_features) in the order of `names` -> (num_pairs,), higher is better."""
        return self.trees.score(features)

    def importance(self) -> dict[str, float]:
        """Each feature's share of the gain over all trees, largest first."""
        gain = self.booster.feature_importance("gain")
        total = max(float(gain.sum()), 1e-12)
        return {self.names[i]: float(gain[i]) / total for i in np.argsort(-gain, kind="stable")}

    def contributions(self, features: Floats) -> Floats:
        """(num_pairs, num_features) what each feature adds to the score (TreeSHAP, Lundberg et al. 2018)."""
        values = self.booster.predict(features, pred_contrib=True, num_threads=self.threads)
        return np.asarray(values, np.float32)[:, :-1]

    def save(self, folder: Path) -> dict[str, Any]:
        (folder / FILE).write_text(self.text, encoding="utf-8")
        return {"kind": "lambdamart", "trees": self.booster.num_trees(), "features": len(self.names)}

    @classmethod
    def open(cls, folder: Path, names: Sequence[str], threads: int = 1) -> LambdaMart:
        """`names`: the columns that will be computed; other ones than it was trained on are an error."""
        try:
            text = (folder / FILE).read_text(encoding="utf-8")
            if not text.rstrip().endswith(LAST_LINE):
                raise ValueError(f"{len(text)} characters that do not end in {LAST_LINE}")
            opened = cls(text, threads)
            if opened.trees.num_features != len(opened.names):
                raise ValueError(f"{len(opened.names)} names for {opened.trees.num_features} features")
        except (OSError, ValueError) as error:
            raise SegueError(f"{folder / FILE}: expected a LightGBM model in text form, found {error}. Train again") from error
        if opened.names != tuple(names):
            raise SegueError(f"{folder / FILE}: expected the features {', '.join(names)}, found {', '.join(opened.names)}. Train again")
        return opened
