"""How far the workers are, told to whoever started them, on one machine or many.

Input: what a worker reports. Output: the same calls in the process that trains, from a thread of its own. One small actor
holds them on the way, no file and no folder. A line may be lost; no worker waits for anybody to listen.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import PendingCallsLimitExceeded, RayError

if TYPE_CHECKING:  # the actor's process needs none of it
    from stages.protocols import Report

MOST_WAITING = 1_000
"""Calls that wait to be heard; then the oldest is lost."""
LISTEN_S = 0.2
PATIENCE_S = 30
ARRIVES_S = 1
"""The end of a phase gets this long to arrive, for its worker may be about to end as well."""


class Board:
    """Where calls wait."""

    def __init__(self) -> None:
        self._calls: deque[tuple[str, float, dict[str, float]]] = deque(maxlen=MOST_WAITING)

    def tell(self, phase: str, done: float, figures: dict[str, float]) -> None:
        self._calls.append((phase, done, figures))

    def hear(self) -> list[tuple[str, float, dict[str, float]]]:
        """What was told since the last time."""
        calls = list(self._calls)
        self._calls.clear()
        return calls


@dataclass(frozen=True)
class RemoteReport:
    """A Report for workers anywhere in the cluster."""

    board: Any
    """The actor's handle."""

    def __call__(self, phase: str, done: float, figures: Mapping[str, float]) -> None:
        with suppress(PendingCallsLimitExceeded):
            sent = self.board.tell.remote(phase, done, dict(figures))
            if done >= 1:
                ray.wait([sent], timeout=ARRIVES_S)


@contextmanager
def reported_to(report: Report) -> Iterator[RemoteReport]:
    """Passes on to `report`, until the block ends, what is told."""
    actor: Any = ray.remote(Board)
    board, ended = actor.options(num_cpus=0, max_pending_calls=MOST_WAITING).remote(), threading.Event()

    def hear() -> None:
        with suppress(RayError):
            for call in ray.get(board.hear.remote(), timeout=PATIENCE_S):
                report(*call)

    def listen() -> None:
        while not ended.wait(LISTEN_S):
            hear()

    thread = threading.Thread(target=listen, name="progress", daemon=True)
    thread.start()
    try:
        yield RemoteReport(board)
    finally:
        ended.set()
        thread.join()
        hear()
        ray.kill(board)
