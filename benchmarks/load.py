"""Load generator over HTTP: a fixed number of clients (closed loop) or of requests a second (open loop).

Input, on stdin: a plan as one line of JSON, then the bodies to post, one a line. Output, on stdout: `start` when the warm-up
is over, `end` when the last answer is in, then the figures as one line of JSON. Made to be a process of its own that takes
little from the cores it shares with the service: requests are bytes before the clock runs, answers are read after it stopped.
At a rate, latency counts from when a request was due, so that a service that stalls is not asked less. Knows no service, only
that an answer has `tracks` and `degraded`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np

PERCENTILES = (50, 95, 99)
OK = "200"
LOST, UNREADABLE, UNANSWERED = "connection lost", "unreadable", "unanswered"
"""What stands for a status where there is none."""
PATIENCE_S = 30.0
"""How long an answer is waited for after the last request was sent."""
MOST_OPEN = 512
"""Connections at once; a request that is due then waits for one, and its clock runs."""
STALE_S = 2.0
"""A connection idle for longer is not used again: the other side may be about to close it."""
REFUSED_PAUSE_S = 0.01
"""Who is refused a connection waits so long, else all it does is ask again."""
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Plan:
    """One measurement: either `clients` or `rate`."""

    host: str
    port: int
    path: str
    k: int
    """Tracks that a complete answer has."""
    seconds: float
    warm_up: float
    clients: int = 1
    rate: float | None = None
    """Requests a second, whoever is free to send them."""
    look_into: int = 1
    """The answers of one request in so many are read; the status is of all."""


class Answer(NamedTuple):
    """What came of one request; times as of time.perf_counter."""

    due: float
    sent: float
    ended: float
    status: str
    body: bytes = b""


def request_bytes(plan: Plan, body: bytes) -> bytes:
    head = f"POST {plan.path} HTTP/1.1\r\nHost: {plan.host}:{plan.port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


class Connection:
    """A connection that is kept, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._used = time.perf_counter()

    async def ask(self, request: bytes) -> tuple[str, bytes]:
        """(status, body); OSError or EOFError where the other side is gone."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        if length is None:
            self._writer.close()
            return UNREADABLE, b""
        body = await self._reader.readexactly(int(length[1]))
        self._used = time.perf_counter()
        return head[9:12].decode(), body

    def usable(self) -> bool:
        return not (self._writer.is_closing() or self._reader.at_eof()) and time.perf_counter() - self._used < STALE_S

    def close(self) -> None:
        self._writer.close()


class Pool:
    """Connections to one address: the one used last is used next."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(MOST_OPEN)

    async def ask(self, request: bytes) -> tuple[float, str, bytes]:
        """(when it was sent, status, body)"""
        async with self._free:
            try:
                connection = self._reusable() or Connection(*await asyncio.open_connection(self._host, self._port))
                sent = time.perf_counter()
                status, body = await _or_closed(connection, request)
            except (OSError, EOFError):
                await asyncio.sleep(REFUSED_PAUSE_S)
                return time.perf_counter(), LOST, b""
            self._idle.append(connection)
            return sent, status, body

    async def close(self) -> None:
        for connection in self._idle:
            connection.close()
        await asyncio.sleep(0)  # they close in the loop's next turn

    def _reusable(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                return connection
            connection.close()
        return None


async def _or_closed(connection: Connection, request: bytes) -> tuple[str, bytes]:
    """The answer; a connection without one is of no further use."""
    try:
        return await connection.ask(request)
    except BaseException:
        connection.close()
        raise


class Run:
    """One stretch of asking: the warm-up, or what is measured."""

    def __init__(self, plan: Plan, pool: Pool, requests: Iterator[bytes], seconds: float) -> None:
        self._plan, self._pool, self._requests, self._seconds = plan, pool, requests, seconds
        self._answers: list[Answer] = []
        self.start = time.perf_counter()

    async def ask(self) -> list[Answer]:
        """Every answer; one that did not come in time is UNANSWERED."""
        asking = await self._send_when_due(self._plan.rate) if self._plan.rate else self._clients()
        if asking:
            _, late = await asyncio.wait(asking, timeout=self.start + self._seconds + PATIENCE_S - time.perf_counter())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        return self._answers

    def _clients(self) -> set[asyncio.Task[None]]:
        return {asyncio.create_task(self._one_client()) for _ in range(self._plan.clients)}

    async def _one_client(self) -> None:
        while (now := time.perf_counter()) < self.start + self._seconds:
            await self._one(now)

    async def _send_when_due(self, rate: float) -> set[asyncio.Task[None]]:
        asking: set[asyncio.Task[None]] = set()
        for offset in due(rate, self._seconds):
            early = self.start + offset - time.perf_counter()
            await (asyncio.to_thread(time.sleep, early) if early > 0 else asyncio.sleep(0))  # the loop's timer is a millisecond late
            task = asyncio.create_task(self._one(self.start + offset))
            asking.add(task)
            task.add_done_callback(asking.discard)
        return asking

    async def _one(self, due: float) -> None:
        try:
            sent, status, body = await self._pool.ask(next(self._requests))
        except asyncio.CancelledError:
            now = time.perf_counter()
            self._answers.append(Answer(due, now, now, UNANSWERED))
            raise
        kept = body if len(self._answers) % self._plan.look_into == 0 else b""
        self._answers.append(Answer(due, sent, time.perf_counter(), status, kept))


def due(rate: float, seconds: float) -> Iterator[float]:
    """Seconds after the start at which requests are due: evenly, the first at once."""
    count = 0
    while count / rate < seconds:
        yield count / rate
        count += 1


def figures(answers: Sequence[Answer], start: float, seconds: float, k: int) -> dict[str, Any]:
    """Latency is of all requests, requests/s of the good ones that were answered within the time."""
    good = [answer for answer in answers if answer.status == OK]
    said = [json.loads(answer.body) for answer in good if answer.body]
    incomplete = sum(len(one["tracks"]) != k for one in said)
    return {
        "requests": len(answers),
        "requests_per_second": round(sum(answer.ended <= start + seconds for answer in good) / seconds, 2),
        "milliseconds": milliseconds([answer.ended - answer.due for answer in answers]),
        "milliseconds_sent_late": milliseconds([answer.sent - answer.due for answer in answers]),
        "errors": len(answers) - len(good) + incomplete,
        "incomplete": incomplete,
        "degraded": sum(bool(one["degraded"]) for one in said),
        "looked_into": len(said),
        "statuses": dict(Counter(answer.status for answer in answers)),
    }


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles, mean and longest; nothing of nothing."""
    if not seconds:
        return {}
    values = np.array(seconds) * 1e3
    found = {f"p{p}": np.percentile(values, p) for p in PERCENTILES} | {"mean": values.mean(), "longest": values.max()}
    return {name: round(float(value), 3) for name, value in found.items()}


async def load(plan: Plan, bodies: Iterable[bytes]) -> dict[str, Any]:
    """The figures of one plan, with the CPU this process took; says `start` and `end` on stdout."""
    requests = cycle([request_bytes(plan, body) for body in bodies])
    pool = Pool(plan.host, plan.port)
    await Run(plan, pool, requests, plan.warm_up).ask()
    gc.collect()
    gc.disable()
    print("start", flush=True)
    cpu, run = time.process_time(), Run(plan, pool, requests, plan.seconds)
    answers = await run.ask()
    cpu = time.process_time() - cpu
    print("end", flush=True)
    await pool.close()
    return {**figures(answers, run.start, plan.seconds, plan.k), "client_cpu_seconds": round(cpu, 3)}


def in_lines(plan: Plan, bodies: Iterable[bytes]) -> bytes:
    """What this module reads from stdin when it is a process."""
    return b"\n".join([json.dumps(asdict(plan)).encode(), *bodies])


def work() -> None:
    line, *bodies = sys.stdin.buffer.read().split(b"\n")
    print(json.dumps(asyncio.run(load(Plan(**json.loads(line)), bodies))), flush=True)


if __name__ == "__main__":
    work()
