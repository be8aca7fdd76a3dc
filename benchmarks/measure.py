"""One measurement: the load generator asks, and what answers is looked at from outside meanwhile.

Input: a plan, and requests as bytes. Output: latency, requests/s, CPU a request and memory by part; of a soak, memory over
time. What answers is every process below this one but the load generator. Starts no service and knows none.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import processes
from benchmarks.load import Plan, in_lines
from features.domain import SegueError

CHECKOUT = Path(__file__).parent.parent
SAMPLE_EVERY_S = 10.0
MIB = 1 << 20

Result = dict[str, Any]


def with_checkout() -> dict[str, str]:
    """The environment of a process that imports from this checkout, wherever the caller stands."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])}


class Asking:
    """The load generator: a process of its own, so that neither its CPU nor its interpreter lock is shared."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    @classmethod
    @contextmanager
    def started(cls, plan: Plan, requests: Sequence[bytes]) -> Iterator[Asking]:
        """Past its warm-up."""
        command, environment = [sys.executable, "-P", "-m", "benchmarks.load"], with_checkout()
        with tempfile.TemporaryFile() as lines:
            lines.write(in_lines(plan, requests))
            lines.seek(0)
            # without a buffer: `ended` looks at the pipe itself
            with subprocess.Popen(command, stdin=lines, stdout=subprocess.PIPE, bufsize=0, env=environment) as process:
                asking = cls(process)
                try:
                    asking._expect(b"start")
                    yield asking
                finally:
                    process.kill()

    def ended(self, within: float | None = None) -> bool:
        """Whether the last answer is in; waits for it, or so many seconds."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], within)[0]:
            return False
        self._expect(b"end")
        return True

    def figures(self) -> Result:
        said: Result = json.loads(self._line())
        return said

    def _expect(self, word: bytes) -> None:
        line = self._line()
        if line.strip() != word:
            raise SegueError(f"load: expected {word.decode()}, found {line!r}. See what it said above")

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


class Clock:
    """What every process below this one has used so far, and the whole machine."""

    def __init__(self, asking: Asking) -> None:
        table = processes.running()
        below = processes.descendants(table, os.getpid())
        self.at = time.perf_counter()
        self.service = [process for process in below if process.pid != asking.pid]
        self.groups = processes.cpu_seconds(self.service)
        self.elsewhere = processes.busy_seconds() - sum(process.cpu_seconds for process in (*below, table[os.getpid()]))


def cost(before: Clock, after: Clock, figures: Result) -> Result:
    """CPU in milliseconds a request; `elsewhere` is how many cores others kept busy, and should be next to nothing."""
    answered = max(figures["requests"], 1)
    used = {name: max(seconds - before.groups.get(name, 0.0), 0.0) for name, seconds in after.groups.items()}
    return {
        "cpu_ms_per_request": round(sum(used.values()) * 1e3 / answered, 3),
        "client_cpu_ms_per_request": round(figures["client_cpu_seconds"] * 1e3 / answered, 3),
        "cores_elsewhere": round((after.elsewhere - before.elsewhere) / (after.at - before.at), 2),
        "cpu_ms_per_request_of": {name: round(seconds * 1e3 / answered, 3) for name, seconds in used.items()},
    }


def memory(service: Sequence[processes.Process]) -> Result:
    held = processes.resident(service)
    return {
        "memory_mib": {"rss": _mib(sum(one.rss for one in held.values())), "pss": _mib(sum(one.pss for one in held.values()))},
        "memory_mib_of": {name: {"rss": _mib(one.rss), "pss": _mib(one.pss)} for name, one in held.items()},
    }


def _mib(size: int) -> float:
    return round(size / MIB, 1)


def measured(plan: Plan, requests: Sequence[bytes]) -> Result:
    """One number of clients, or one rate."""
    with Asking.started(plan, requests) as asking:
        before = Clock(asking)
        asking.ended()
        after = Clock(asking)
        figures = asking.figures()
    return {**figures, **cost(before, after, figures), **memory(after.service)}


def soak(plan: Plan, requests: Sequence[bytes]) -> Result:
    """One rate for long, and what every group of processes holds meanwhile."""
    samples: list[dict[str, float]] = []
    with Asking.started(plan, requests) as asking:
        while not asking.ended(SAMPLE_EVERY_S):
            held = processes.resident(Clock(asking).service)
            samples.append({name: _mib(one.rss) for name, one in held.items()})
        figures = asking.figures()
    return {"rate": plan.rate, "minutes": plan.seconds / 60, **figures, "rss_mib_of": grown(samples, SAMPLE_EVERY_S)}


def grown(samples: Sequence[Mapping[str, float]], every: float) -> dict[str, Result]:
    """Of each group that was always there: first, last, and the slope of the straight line, of the second half too.

    Caches and allocators fill up in the first half; what still grows in the second will not stop.
    """
    names = [name for name in (samples[0] if samples else {}) if all(name in sample for sample in samples)]
    return {name: _growth([sample[name] for sample in samples], every / 60) for name in names}


def _growth(values: Sequence[float], minutes: float) -> Result:
    slopes = {"mib_per_minute": _slope(values, minutes), "mib_per_minute_second_half": _slope(values[len(values) // 2 :], minutes)}
    return {"first": values[0], "last": values[-1], **slopes, "samples": list(values)}


def _slope(values: Sequence[float], minutes: float) -> float:
    return round(float(np.polyfit(np.arange(len(values)) * minutes, values, 1)[0]), 3) if len(values) > 1 else 0.0
