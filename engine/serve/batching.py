"""Natural micro-batches: what arrives while a batch is in flight travels together in the next one. There is no timer.

Input: items one at a time, from many tasks of one event loop. Output: each item's own result. A lone item starts at
once and never waits for company; under load batches grow by themselves, which is when they pay. Knows not what an
item is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from features.domain import SegueError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Overloaded(SegueError):
    """More is waiting than is allowed to wait."""


class Batcher(Generic[Item, Result]):
    """Calls `run` with at most `most` items at a time, at most `in_flight` batches at once, at most `waiting` items in line."""

    def __init__(self, run: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], most: int, in_flight: int, waiting: int) -> None:
        self._run, self._most, self._in_flight, self._waiting = run, most, in_flight, waiting
        self._line: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._flying: set[asyncio.Task[None]] = set()

    async def submit(self, item: Item) -> Result:
        """The item's result; Overloaded at once where the line is full. What `run` raises, every item of its batch raises."""
        if len(self._line) >= self._waiting:
            raise Overloaded(f"queue: expected at most {self._waiting} waiting requests, found as many. Ask again later")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._line.append((item, future))
        loop.call_soon(self._start)  # not now: what arrives in this turn of the loop comes along
        return await future

    def _start(self) -> None:
        while len(self._flying) < self._in_flight and (batch := self._next()):
            task = asyncio.create_task(self._fly(batch))
            self._flying.add(task)
            task.add_done_callback(self._landed)

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """The next items that somebody still waits for."""
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._line and len(batch) < self._most:
            item, future = self._line.popleft()
            if not future.done():
                batch.append((item, future))
        return batch

    async def _fly(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
        except Exception as error:  # it belongs to those who wait, whatever it is
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        self._start()
