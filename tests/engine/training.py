"""A world small enough to train on in a second or two, and what is asked of a training on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from engine.config import Config, ExamplesConfig, SourcesConfig
from features.ingest import ingest
from features.synthetic import write_world
from stages.rank.lambdamart import LambdaMartRecipe
from stages.retrieve.als.model import AlsRecipe
from stages.retrieve.autoencoder.model import AutoencoderRecipe
from stages.retrieve.catalogue.related_artists import RelatedRecipe
from stages.retrieve.content.recipes import ContractiveRecipe

SOURCES = SourcesConfig(
    als=AlsRecipe(factors=16, iterations=4),
    autoencoder=AutoencoderRecipe(dim=16, epochs=2),
    content=ContractiveRecipe(epochs=2),
    related=RelatedRecipe(als=AlsRecipe(factors=8, iterations=2)),
)
CONFIG = Config(
    alternatives={"als": ({"factors": 24},)},
    sources=SOURCES,
    examples=ExamplesConfig(folds=1, share=0.25, check_share=0.3),
    ranker=LambdaMartRecipe(num_iterations=20, checkpoint_every=8),
)
DIVERGES = CONFIG.model_copy(
    update={"sources": SOURCES.model_copy(update={"autoencoder": AutoencoderRecipe(dim=16, epochs=2, learning_rate=1e15)})}
)
DIVERGED = "autoencoder track vectors: expected finite numbers, found .* that are not"


def make_dataset(folder: Path, playlists: int = 300) -> Path:
    write_world(folder / "world", playlists, tracks=500, seed=1)
    ingest([folder / "world" / "mpd.zip"], folder / "dataset", folder / "world" / "audio_features.parquet", (), lambda *_: None)
    return folder / "dataset"


class Heard:
    """A Report that remembers; it can be told to end the training."""

    def __init__(self, breaks_at: tuple[str, float] | None = None) -> None:
        """`breaks_at`: a phase and the share of it after which the power is gone."""
        self.done: dict[str, Mapping[str, float]] = {}
        """By finished phase, in the order of the ends, the last figures."""
        self.shares = defaultdict[str, list[float]](list)
        """By phase, all that was told."""
        self._breaks_at = breaks_at

    def __call__(self, phase: str, share: float, figures: Mapping[str, float]) -> None:
        assert 0 <= share <= 1
        self.shares[phase].append(share)
        if share == 1:
            self.done[phase] = dict(figures)
        if (phase, share) == self._breaks_at:
            raise RuntimeError("the power is gone")


def ranker_text(artifact: Path) -> str:
    return (artifact / "ranker" / "ranker.txt").read_text()
