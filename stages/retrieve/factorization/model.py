"""Neural matrix factorisation (logistic loss) with biases, and fold-in of new playlists.

Input: playlist-track interactions. Output: track vectors whose last coordinate is the track's bias, and for any seed set the playlist
factors fitted to it. The model is logistic, p(playlist u holds track i) = sigmoid(x_u . y_i + b_u + b_i), as in
Johnson, "Logistic Matrix Factorization for Implicit Feedback Data" (2014). The targets are binary; a playlist that holds n
tracks loses

    sum over its tracks of w_ui (-log p_ui + l (|x_u|^2 + |y_i|^2) / 2)  +  k n / num_tracks * sum over the others of -log(1 - p_ui)

w are the weights of its entries, of mean 1; k is `negative_weight`, l `regularization`. In training the sum over the others is
estimated from a sample (`stages.retrieve.training.sampled_softmax`). A query is folded in by Newton's method on the same loss,
with the track vectors fixed: it is convex in (x_u, b_u), so there is one answer. Its sum over the others runs over a background of tracks
kept for this purpose: the most held ones, and an even sample of the rest that stands for all of them.
Knows no title, no content and no Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.special import expit

from features.arrays import floats, indices
from features.domain import Floats, Ints, counted
from features.npy import load_array, save_array
from stages.retrieve.index.recipe import IndexRecipe
from stages.retrieve.recipe import Recipe
from stages.retrieve.vectors import VectorSource, open_vectors

Doubles = npt.NDArray[np.float64]

NEWTON_STEPS = 20
CLOSE_ENOUGH = 1e-5
"""A Newton step that promises to lower the loss of a seed by less than this is the last."""


class FactorizationRecipe(Recipe):
    """Size, weights and length of the training."""

    old_names: ClassVar = {"dim": "factors"}

    kind: Literal["factorization"] = "factorization"
    factors: int = Field(64, ge=1, le=4096)
    """Dimensions of the vectors."""
    epochs: int = Field(6, ge=1)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(0.005, gt=0)
    negatives: int = Field(4_000, ge=1)
    """Tracks drawn per step beside those the batch holds."""
    negative_weight: float = Field(10.0, gt=0)
    """k of the loss: what the tracks a playlist does not hold weigh together, against the ones it holds."""
    regularization: float = Field(0.01, ge=0)
    """l of the loss."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Share of the playlist factors that are left out in each training step."""
    weighting: Literal["none", "followers", "position"] = "none"
    """What makes an entry's label weigh more: its playlist has more followers, or it stands nearer to the playlist's beginning."""
    background: int = Field(4_000, ge=1)
    """Tracks that stand for all others when a query is folded in."""
    index: IndexRecipe = IndexRecipe()

    def read(self, folder: Path, num_tracks: int) -> Factorization:
        vectors = open_vectors(folder, (num_tracks, self.factors + 1))
        return Factorization(self, vectors, self.index.open(folder, vectors), Background.open(folder, num_tracks))

    def entry_weights(self, places: np.ndarray) -> Floats:
        """(n,) the weights, of mean 1 in a playlist, of the entries at `places` (n,), 0 for the first."""
        if self.weighting != "position" or not len(places):
            return np.ones(len(places), np.float32)
        weights = 1 / np.log2(places + 2.0)
        return np.asarray(weights / weights.mean(), np.float32)

    def playlist_weights(self, followers: Ints) -> Floats:
        """(num_playlists,) how much each playlist teaches, 1 in the mean."""
        if self.weighting != "followers" or not len(followers):
            return np.ones(len(followers), np.float32)
        weights = 1 + np.log1p(followers.clip(0).astype(np.float64))
        return np.asarray(weights / weights.mean(), np.float32)


@dataclass(frozen=True)
class Background:
    """Tracks that stand for all tracks when a sum over all is wanted."""

    tracks: Ints
    """(m,)"""
    shares: Floats
    """(m,) how many tracks each of them stands for."""

    @classmethod
    def of(cls, counts: np.ndarray, size: int, seed: int) -> Background:
        """The more popular half are the most held tracks, each for itself; the others are drawn evenly from the rest."""
        order = np.argsort(-counts, kind="stable").astype(np.int32)
        if size >= len(order):
            return cls(np.sort(order), np.ones(len(order), np.float32))
        top, rest = order[: size // 2], order[size // 2 :]
        drawn = np.random.default_rng(seed).choice(rest, size - len(top), replace=False)
        shares = np.concatenate([np.ones(len(top)), np.full(len(drawn), len(rest) / len(drawn))])
        return cls(np.concatenate([top, drawn]), shares.astype(np.float32))

    def save(self, folder: Path) -> None:
        save_array(folder / "background_tracks.npy", self.tracks)
        save_array(folder / "background_shares.npy", self.shares)

    @classmethod
    def open(cls, folder: Path, num_tracks: int) -> Background:
        tracks = load_array(folder / "background_tracks.npy", indices(None, below=num_tracks, order="distinct"))
        return cls(tracks, load_array(folder / "background_shares.npy", floats(len(tracks), low=0)))


@dataclass(frozen=True, repr=False)
class Factorization(VectorSource):
    """Trained: track factors with their bias as the last coordinate, and the background that queries are set against."""

    recipe: FactorizationRecipe
    background: Background

    @property
    def track_biases(self) -> Floats:
        """(num_tracks,) b of the model: how much each track is held, whoever holds it."""
        return self.track_vectors[:, -1]

    def query_vector(self, seeds: Ints) -> Doubles:
        """The factors of a playlist of `seeds` and a 1 for the track's bias. The playlist's own bias is the same for every track."""
        return np.append(self.fold_in(seeds)[:-1], 1)

    def fold_in(self, seeds: Ints) -> Doubles:
        """(factors + 1,) the factors and the bias of a playlist that holds `seeds` (at least one)."""
        others = ~np.isin(self.background.tracks, seeds)
        tracks = np.concatenate([seeds, self.background.tracks[others]])
        share = self.recipe.negative_weight / len(self.track_vectors)
        weights = np.concatenate([self.recipe.entry_weights(np.arange(len(seeds))) / len(seeds), share * self.background.shares[others]])
        targets = (np.arange(len(tracks)) < len(seeds)).astype(np.float64)
        return _logistic(self.track_vectors[tracks].astype(np.float64), targets, weights, self.recipe.regularization)

    def write_parts(self, folder: Path) -> None:
        self.background.save(folder)

    def facts(self) -> dict[str, Any]:
        factors = self.recipe.factors
        return {"kind": "factorization", "dimension": factors + 1, "bias_coordinate": factors, "metric": "inner product"}

    @property
    def dimensions(self) -> str:
        return counted(self.recipe.factors, "factor")


def _solved(system: Doubles, target: Doubles) -> Doubles:
    """Least squares where vectors of very different lengths leave the system singular."""
    try:
        return np.asarray(np.linalg.solve(system, target), np.float64)
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(system, target)[0], np.float64)


def _logistic(vectors: Doubles, targets: Doubles, weights: Doubles, ridge: float) -> Doubles:
    """Weighted logistic regression with an offset, by Newton's method with halved steps: (dim factors, then the bias).

    `vectors` (m, dim + 1) have the offset as last column. The factors are held small by `ridge`, the bias by next to nothing, so
    that there is a minimum even if all targets are alike.
    """
    design = np.concatenate([vectors[:, :-1], np.ones((len(vectors), 1))], axis=1)
    penalty = np.full(design.shape[1], max(ridge, 1e-6))
    penalty[-1] = 1e-6

    def loss(point: Doubles) -> float:
        scores = design @ point + vectors[:, -1]
        return float(weights @ (np.logaddexp(0, scores) - targets * scores) + penalty @ point**2 / 2)

    point = np.zeros(design.shape[1])
    for _ in range(NEWTON_STEPS):
        chances = expit(design @ point + vectors[:, -1])
        gradient = design.T @ (weights * (chances - targets)) + penalty * point
        hessian = (design.T * (weights * chances * (1 - chances))) @ design + np.diag(penalty)
        step = _solved(hessian, gradient)
        promised, size, before = float(gradient @ step), 1.0, loss(point)
        while size > 1e-6 and loss(point - size * step) > before - 0.1 * size * promised:
            size /= 2
        point = point - size * step
        if promised < CLOSE_ENOUGH:
            break
    return point
