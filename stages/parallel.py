"""Collective operations for training (all-reduce, broadcast, all-gather, all-to-all), with or without a process group.

Input: tensors of this worker. Output: tensors combined over all workers; with one process nothing is sent.
Uses `torch.distributed`. Does not know who started the workers: Ray Train, torchrun or a single plain process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.distributed as dist


def _group() -> bool:
    return dist.is_available() and dist.is_initialized()


def num_workers() -> int:
    return dist.get_world_size() if _group() else 1


def worker_rank() -> int:
    return dist.get_rank() if _group() else 0


def local_rank() -> int:
    """This worker's number among those of its machine; 0 where nobody counts them."""
    return dist.get_node_local_rank(fallback_rank=0) if _group() else 0


def shard(num_rows: int) -> tuple[int, int]:
    """This worker's contiguous share `[start, stop)` of `num_rows` rows; shares differ by at most one row."""
    return share_of(shard_bounds(num_rows))


def share_of(bounds: np.ndarray) -> tuple[int, int]:
    """This worker's `[start, stop)` of `bounds` (workers + 1,), where the workers' shards begin and the last one ends."""
    return int(bounds[worker_rank()]), int(bounds[worker_rank() + 1])


def shard_bounds(num_rows: int) -> np.ndarray:
    return np.linspace(0, num_rows, num_workers() + 1).astype(np.int64)


def all_reduce_sum(tensor: torch.Tensor) -> torch.Tensor:
    """The elementwise sum, in place, the same on every worker."""
    if num_workers() > 1:
        dist.all_reduce(tensor)
    return tensor


def optimizer_step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """One step down the gradient of the sum over the workers of their `loss`, the same step on every worker."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            all_reduce_sum(parameter.grad)
    optimizer.step()


def train_epoch(
    order: torch.Tensor, batch_size: int, optimizer: torch.optim.Optimizer, loss_of: Callable[[torch.Tensor, slice], torch.Tensor]
) -> float:
    """One step for each batch of the rows `order` (n,); returns the mean loss of a row.

    `loss_of(rows, own)` is the summed loss of `rows[own]`, this worker's share of the batch `rows`.
    """
    total = torch.zeros(())
    for rows in torch.split(order, batch_size):
        loss = loss_of(rows, slice(*shard(len(rows))))
        optimizer_step(optimizer, loss / len(rows))
        total += loss.detach()
    return float(all_reduce_sum(total)) / len(order)


def all_gather_rows(rows: torch.Tensor, bounds: np.ndarray | None = None) -> torch.Tensor:
    """Fills in `rows` (num_rows, dim), of which this worker computed its `shard`, the other workers' shards; or, with `bounds`
    (workers + 1,), those from `bounds[worker]` to before `bounds[worker + 1]`."""
    if num_workers() > 1:
        bounds = shard_bounds(len(rows)) if bounds is None else bounds
        for owner in range(num_workers()):
            dist.broadcast(rows[bounds[owner] : bounds[owner + 1]], src=owner)
    return rows


def gather_rows(own: torch.Tensor, bounds: np.ndarray) -> torch.Tensor:
    """(num_rows, dim) the rows of all workers, of which `own` is this worker's share of `bounds` (workers + 1,); no second copy
    of them is made."""
    if num_workers() == 1:
        return own
    rows = own.new_empty((int(bounds[-1]), *own.shape[1:]))
    rows[slice(*share_of(bounds))] = own
    return all_gather_rows(rows, bounds)


def broadcast(tensor: torch.Tensor) -> torch.Tensor:
    """Worker 0's `tensor` on every worker, in place."""
    if num_workers() > 1:
        dist.broadcast(tensor, src=0)
    return tensor


def all_to_all(parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """What each worker sent to this one, in their order: `parts[i]` (n,) goes to worker i."""
    workers, rank = num_workers(), worker_rank()
    lengths = torch.zeros(workers, workers, dtype=torch.int64)
    lengths[rank] = torch.tensor([len(part) for part in parts])
    all_reduce_sum(lengths)
    received = [part.new_empty(int(lengths[source, rank])) for source, part in enumerate(parts)]
    received[rank] = parts[rank]
    for distance in range(1, workers):
        to, source = (rank + distance) % workers, (rank - distance) % workers
        sent = dist.isend(parts[to], to) if len(parts[to]) else None
        if len(received[source]):
            dist.recv(received[source], source)
        if sent:
            sent.wait()
    return received


def device() -> torch.device:
    """The device of this worker: its GPU if it has one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def all_gather(values: torch.Tensor) -> torch.Tensor:
    """The concatenated `values` (n,) of all workers, in worker order; n may differ between workers."""
    if num_workers() == 1:
        return values
    lengths = torch.zeros(num_workers(), dtype=torch.int64)
    lengths[worker_rank()] = len(values)
    all_reduce_sum(lengths)
    padded = values.new_zeros(int(lengths.max()))
    padded[: len(values)] = values
    gathered = [torch.empty_like(padded) for _ in range(num_workers())]
    dist.all_gather(gathered, padded)
    return torch.cat([part[:length] for part, length in zip(gathered, lengths.tolist(), strict=True)])


def all_gather_unique(ids: torch.Tensor) -> torch.Tensor:
    """The sorted distinct ids (int64) that any worker holds."""
    everything: torch.Tensor = torch.unique(all_gather(torch.unique(ids)))
    return everything
