"""What the workers report and say, on its way to the process that started them, on one machine or many.

Input: the reports and the lines of a worker. Output: the same calls in the starting process, from a thread of its own. One small Ray
actor holds them on the way. A report may be lost; no worker waits for it to be read.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import ray
from ray.exceptions import PendingCallsLimitExceeded, RayError

from engine.train.storage import Say
from features.progress import NO_FIGURES, Progress

MOST_WAITING = 1_000
"""Reports that wait to be read; one more, and the oldest is lost."""
POLL_S = 0.2
READ_TIMEOUT_S = 30
LAST_REPORT_S = 1
"""The end of a phase, and a line, get this long to arrive, for their worker may be about to end as well."""
Call: TypeAlias = tuple[str, float, dict[str, float]] | str
"""A report, or a line."""


class ReportQueue:
    """Reports and lines that wait to be read."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=MOST_WAITING)

    def put(self, call: Call) -> None:
        self._calls.append(call)

    def take(self) -> list[Call]:
        """All calls since the last one."""
        calls = list(self._calls)
        self._calls.clear()
        return calls


@dataclass(frozen=True)
class RemoteReport:
    """A Progress, and a Say, for workers anywhere in the cluster."""

    queue: Any
    """The actor's handle."""

    def __call__(self, phase: str, done: float, figures: Mapping[str, float] = NO_FIGURES, /) -> None:
        self._send((phase, done, dict(figures)), wait=done >= 1)

    def say(self, line: str) -> None:
        self._send(line, wait=True)

    def _send(self, call: Call, *, wait: bool) -> None:
        with suppress(PendingCallsLimitExceeded):
            sent = self.queue.put.remote(call)
            if wait:
                ray.wait([sent], timeout=LAST_REPORT_S)


@contextmanager
def reported_to(report: Progress, say: Say) -> Iterator[RemoteReport]:
    """Passes what the workers report and say on to `report` and `say` until the block ends."""
    actor: Any = ray.remote(ReportQueue)
    queue, ended = actor.options(num_cpus=0, max_pending_calls=MOST_WAITING).remote(), threading.Event()

    def read() -> None:
        with suppress(RayError):
            calls: list[Call] = ray.get(queue.take.remote(), timeout=READ_TIMEOUT_S)
            for call in calls:
                if isinstance(call, str):
                    say(call)
                else:
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
