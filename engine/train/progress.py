"""Progress reports from the workers to the process that started them, on one machine or many.

Input: the reports of a worker. Output: the same calls in the starting process, from a thread of its own. One small Ray actor holds
them on the way. A report may be lost; no worker waits for it to be read.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import PendingCallsLimitExceeded, RayError

from features.progress import NO_FIGURES, Progress

MOST_WAITING = 1_000
"""Reports that wait to be read; one more, and the oldest is lost."""
POLL_S = 0.2
READ_TIMEOUT_S = 30
LAST_REPORT_S = 1
"""The end of a phase gets this long to arrive, for its worker may be about to end as well."""


class ReportQueue:
    """Reports that wait to be read."""

    def __init__(self) -> None:
        self._calls: deque[tuple[str, float, dict[str, float]]] = deque(maxlen=MOST_WAITING)

    def put(self, phase: str, done: float, figures: dict[str, float]) -> None:
        self._calls.append((phase, done, figures))

    def take(self) -> list[tuple[str, float, dict[str, float]]]:
        """All reports since the last call."""
        calls = list(self._calls)
        self._calls.clear()
        return calls


@dataclass(frozen=True)
class RemoteReport:
    """A Progress for workers anywhere in the cluster."""

    queue: Any
    """The actor's handle."""

    def __call__(self, phase: str, done: float, figures: Mapping[str, float] = NO_FIGURES, /) -> None:
        with suppress(PendingCallsLimitExceeded):
            sent = self.queue.put.remote(phase, done, dict(figures))
            if done >= 1:
                ray.wait([sent], timeout=LAST_REPORT_S)


@contextmanager
def reported_to(report: Progress) -> Iterator[RemoteReport]:
    """Passes the reports of the workers on to `report` until the block ends."""
    actor: Any = ray.remote(ReportQueue)
    queue, ended = actor.options(num_cpus=0, max_pending_calls=MOST_WAITING).remote(), threading.Event()

    def read() -> None:
        with suppress(RayError):
            for call in ray.get(queue.take.remote(), timeout=READ_TIMEOUT_S):
                report(*call)

    def poll() -> None:
        while not ended.wait(POLL_S):
            read()

    thread = threading.Thread(target=poll, name="progress", daemon=True)
    thread.start()
    try:
        yield RemoteReport(queue)
    finally:
        ended.set()
        thread.join()
        read()
        ray.kill(queue)
