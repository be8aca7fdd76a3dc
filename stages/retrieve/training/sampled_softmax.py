"""Training over a sample of the tracks (sampled softmax): the cost of a step does not depend on the number of tracks.

Input: playlist-track interactions, tables with a row per track or playlist, a loss over some of their rows. Output: the tables, improved.
A step looks at the tracks of its batch of playlists and at a uniform sample of the others, each weighted by the inverse of
its sampling probability, and updates only these rows. With several workers each has its share of the batch; the
tracks looked at are those of all, and the gradients are summed. Knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import gammaln

from features.domain import Floats, Ints
from features.interactions import Interactions
from stages import parallel


@dataclass(frozen=True)
class Sampler:
    """Which playlists teach together, and which tracks each step looks at."""

    interactions: Interactions
    batch_size: int
    negatives: int
    """Tracks drawn per step beside those the batch holds."""
    least: int
    """Only playlists of so many tracks teach."""

    def playlists(self) -> np.ndarray:
        """Those that teach."""
        return np.flatnonzero(self.interactions.lengths() >= self.least)

    def batches(self, random: np.random.Generator) -> Iterator[np.ndarray]:
        """One pass over the playlists that teach, in random order; each batch in ascending order."""
        order = random.permutation(self.playlists())
        for start in range(0, len(order), self.batch_size):
            yield np.sort(order[start : start + self.batch_size])

    def draw(self, held: list[Ints], random: np.random.Generator) -> torch.Tensor:
        """The sorted tracks of a step: those `held` by this worker's share of the batch or another's, and the drawn ones."""
        num_tracks = self.interactions.num_tracks
        drawn = random.choice(num_tracks, min(self.negatives, num_tracks), replace=False, shuffle=False)
        return parallel.all_gather_unique(torch.from_numpy(np.concatenate([*held, drawn]).astype(np.int64)))

    def log_chances(self, without: int = 0) -> Floats:
        """(num_tracks,) how likely each track is in a step: held by a playlist of a whole batch, or drawn.

        With `without`, given that so many playlists of the batch do not hold it.
        """
        lengths, num_tracks = self.interactions.lengths(), self.interactions.num_tracks
        teaches = lengths >= self.least
        held_by = np.bincount(self.interactions.tracks[np.repeat(teaches, lengths)], minlength=num_tracks)
        playlists, batch = (max(count - without, 0) for count in (int(teaches.sum()), min(self.batch_size, int(teaches.sum()))))
        others = (playlists - held_by).clip(0)
        # of the ways to choose a batch, those without a holder; the gammaln of 0 and below is infinite: there is no way
        ways = gammaln(others + 1) - gammaln(others - batch + 1) - gammaln(playlists + 1) + gammaln(playlists - batch + 1)
        left_out = np.exp(ways) * (1 - min(self.negatives / num_tracks, 1))
        return np.asarray(np.log1p(-left_out.clip(0, 1 - 1e-9)), np.float32)


def places(sample: torch.Tensor, tracks: list[Ints]) -> torch.Tensor:
    """(n,) where in the sorted `sample` each of the `tracks` stands, one list after the other; all are in it."""
    wanted = np.concatenate(tracks) if tracks else np.empty(0, np.int64)
    return torch.searchsorted(sample, torch.from_numpy(wanted.astype(np.int64)))


class SparseTables:
    """Large tables, of which a step sees and updates some rows, and the small layers between them."""

    def __init__(self, tables: dict[str, torch.Tensor], layers: list[torch.nn.Parameter], learning_rate: float) -> None:
        """Rows learn at twice the `learning_rate` of the layers: each sees a few of the steps, the layers see all."""
        self.tables, self._layers, self._rates = tables, layers, (2 * learning_rate, learning_rate)
        self._sparse = torch.optim.SparseAdam(list(tables.values()), lr=self._rates[0])
        self._dense = torch.optim.Adam(layers, lr=self._rates[1]) if layers else None

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self._sparse, self._dense] if self._dense else [self._sparse]

    def slow_down(self, pace: float) -> None:
        """From now on steps are `pace` times as long as at first."""
        for optimizer, rate in zip((self._sparse, self._dense), self._rates, strict=True):
            for group in optimizer.param_groups if optimizer else ():
                group["lr"] = rate * pace

    def rows(self, ids: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The rows `ids` of each table, to compute a loss from."""
        return {name: self.tables[name][of_table].requires_grad_() for name, of_table in ids.items()}

    def update(self, loss: torch.Tensor, rows: Mapping[str, torch.Tensor], ids: Mapping[str, torch.Tensor]) -> float:
        """One step down the summed gradients of all workers' `loss`; returns the summed loss. `ids` are sorted and distinct."""
        for parameter in self._layers:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter in self._layers:
            parameter.grad = parallel.all_reduce_sum(_gradient(parameter))
        for name, of_table in ids.items():
            table, gradient = self.tables[name], parallel.all_reduce_sum(_gradient(rows[name]))
            table.grad = torch.sparse_coo_tensor(of_table[None], gradient, table.shape, is_coalesced=True, check_invariants=False)
        if self._dense:
            self._dense.step()
        self._sparse.step()  # type: ignore[no-untyped-call]
        return float(parallel.all_reduce_sum(loss.detach().clone()))


def _gradient(rows: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(rows) if rows.grad is None else rows.grad
