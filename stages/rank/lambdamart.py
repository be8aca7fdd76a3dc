"""LambdaMART: gradient-boosted trees that learn the order of candidates, by the distributed LightGBM learner.

Input: examples in groups, one group per query. Output: a ranker that scores pair features. Burges, "From RankNet to
LambdaRank to LambdaMART" (2010); Ke et al., "LightGBM" (2017). Every worker holds whole queries; the parameters that
join the workers come from outside. Trees are trained in rounds, each starting from the scores of the trees so far, so that an
interrupted run resumes from their text. LightGBM, a large import, is used to train and to explain, never to score.
Knows no retriever and no Ray.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from features.domain import Floats, SegueError
from features.progress import Progress, silent
from features.reading import reading
from stages.rank.examples import Examples
from stages.rank.trees import MOST_LEAVES, Trees, line, split_gains
from stages.resume import NO_CHECKPOINTS, Checkpoint, CheckpointStore
from stages.settings import Settings

FILE = "ranker.txt"
LAST_LINE = "pandas_categorical:null"
"""How LightGBM ends a model's text; it kills the process that reads one cut short."""


class LambdaMartRecipe(Settings):
    """Trees, leaves and how fast they learn, spelled as LightGBM spells them."""

    old_names: ClassVar = {
        "trees": "num_iterations",
        "leaves": "num_leaves",
        "least_examples_per_leaf": "min_data_in_leaf",
        "feature_share": "feature_fraction",
        "row_share": "bagging_fraction",
        "truncation": "lambdarank_truncation_level",
        "kept_every": "checkpoint_every",
    }

    num_iterations: int = Field(500, ge=1)
    """One tree each."""
    num_leaves: int = Field(31, ge=2, le=MOST_LEAVES)
    """Leaves of a tree, at most."""
    learning_rate: float = Field(0.04, gt=0)
    """How much each tree counts."""
    min_data_in_leaf: int = Field(50, ge=1)
    """Examples in a leaf, at least."""
    feature_fraction: float = Field(0.7, gt=0, le=1)
    """Share of the features that each tree may use."""
    bagging_fraction: float = Field(0.8, gt=0, le=1)
    """Share of the examples that each tree learns from."""
    lambdarank_truncation_level: int = Field(300, ge=1)
    """Pairs are compared where one of the two stands in the first so many."""
    max_bin: int = Field(127, ge=2)
    """Different values of a feature, at most, after they are binned."""
    checkpoint_every: int = Field(50, ge=1)
    """Trees between two checkpoints, from which an interrupted run resumes; after each, rows and features are drawn from new seeds."""

    def fit(
        self,
        examples: Examples,
        seed: int,
        threads: int,
        network: Mapping[str, Any] | None = None,
        report: Progress = silent,
        steps: CheckpointStore = NO_CHECKPOINTS,
    ) -> LambdaMart:
        """`network`: LightGBM's own parameters that join several workers, each with its share of the groups. A step is a tree;
        who goes on from `steps` gets the very trees of an undisturbed run."""
        if not examples.labels.any():
            raise SegueError(
                f"ranker: expected examples with at least one hit, found {len(examples.labels)} pairs and no hit. "
                "Too few playlists, or no source proposes what they hold. Give more playlists"
            )
        import lightgbm

        data = lightgbm.Dataset(
            examples.features, examples.labels, group=examples.groups, feature_name=list(examples.names), free_raw_data=True
        )
        done, text = _kept(steps.last())
        connected = None  # the network is its first booster's: no port can be bound again right after it was left
        for first in range(done, self.num_iterations, self.checkpoint_every):
            if text:
                data.set_init_score(Trees.of(text).score(examples.features))
            count, joint = min(self.checkpoint_every, self.num_iterations - first), _joint(network, connect=connected is None)
            parameters = self._parameters([seed, first], threads) | joint
            booster = lightgbm.train(parameters, data, count, callbacks=[self._progress(report, first)])
            connected = connected or booster
            text = _joined(text, booster.model_to_string())
            steps.keep(Checkpoint(first + count, {}, {"text": np.frombuffer(text.encode(), np.uint8)}))
        if network and connected:
            connected.free_network()
        return LambdaMart(text, threads)

    def _parameters(self, seeds: Sequence[int], threads: int) -> dict[str, Any]:
        of_rows, of_features = np.random.default_rng(seeds).integers(2**31, size=2).tolist()
        return {
            "objective": "lambdarank",
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.min_data_in_leaf,
            "feature_fraction": self.feature_fraction,
            "bagging_fraction": self.bagging_fraction,
            "bagging_freq": 1,
            "lambdarank_truncation_level": self.lambdarank_truncation_level,
            "max_bin": self.max_bin,
            "bagging_seed": of_rows,
            "feature_fraction_seed": of_features,
            "seed": seeds[0],
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": threads,
            "verbosity": -1,
        }

    def _progress(self, report: Progress, first: int) -> Any:
        def show(env: Any) -> None:
            trees = first + env.iteration + 1
            report("ranker", trees / self.num_iterations, {"trees": float(trees)})

        return show


def _kept(reached: Checkpoint | None) -> tuple[int, str]:
    """How many trees there are, and their text."""
    return (reached.done, reached.shared["text"].tobytes().decode()) if reached else (0, "")


def _joint(network: Mapping[str, Any] | None, *, connect: bool) -> dict[str, Any]:
    """The parameters by which several workers learn together; without those that connect them, where they are connected."""
    if not network:
        return {}
    joint = {"tree_learner": "data_parallel", "pre_partition": True, **network}
    return {name: value for name, value in joint.items() if connect or name != "machines"}


def _joined(text: str, more: str) -> str:
    """One model of the trees of both, which score as the sum of both; `text` is empty before the first."""
    if not text:
        return more
    import lightgbm

    head, end, rest = text.partition("\nend of trees")
    trees = more[more.index("\nTree=") : more.index("\nend of trees")]
    unsized = re.sub(r"^tree_sizes=.*\n", "", head, flags=re.MULTILINE)  # else it would read no more trees than were announced
    return str(lightgbm.Booster(model_str=unsized + trees + end + rest).model_to_string())


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
        gain = split_gains(self.text)
        total = max(float(gain.sum()), 1e-12)
        return {self.names[i]: float(gain[i]) / total for i in np.argsort(-gain, kind="stable")}

    def contributions(self, features: Floats) -> Floats:
        """(num_pairs, num_features) what each feature adds to the score (TreeSHAP, Lundberg et al. 2018)."""
        values = self.booster.predict(features, pred_contrib=True, num_threads=self.threads)
        return np.asarray(values, np.float32)[:, :-1]

    def save(self, folder: Path) -> dict[str, Any]:
        (folder / FILE).write_text(self.text, encoding="utf-8")
        return {"kind": "lambdamart", "trees": self.trees.num_trees, "features": len(self.names)}

    @classmethod
    def open(cls, folder: Path, names: Sequence[str], threads: int = 1) -> LambdaMart:
        """`names`: the columns that will be computed; other ones than it was trained on are an error."""
        with reading(folder / FILE, "a LightGBM model in text form", "Train again"):
            text = (folder / FILE).read_text(encoding="utf-8")
            if not text.rstrip().endswith(LAST_LINE):
                raise ValueError(f"{len(text)} characters that do not end in {LAST_LINE}")
            opened = cls(text, threads)
            if opened.trees.num_features != len(opened.names):  # all of it is read here, before LightGBM may be asked
                raise ValueError(f"{len(opened.names)} names for {opened.trees.num_features} features")
        if opened.names != tuple(names):
            raise SegueError(f"{folder / FILE}: expected the features {', '.join(names)}, found {', '.join(opened.names)}. Train again")
        return opened
