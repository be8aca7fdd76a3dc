"""Micro-batching without a timer: items that arrive while a batch runs form the next batch.

Input: items one at a time, from many tasks of one event loop. Output: each item's own result. A lone item starts at
once; under load batches grow without waiting, which is when they save work. Independent of what an item is.
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
    """The queue is full."""


class Batcher(Generic[Item, Result]):
    """Calls `run` with at most `max_batch` items, for at most `in_flight` batches at once; at most `max_waiting` items wait."""

    def __init__(
        self, run: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], max_batch: int, in_flight: int, max_waiting: int
    ) -> None:
        self._run, self._max_batch, self._in_flight, self._max_waiting = run, max_batch, in_flight, max_waiting
        self._queue: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._batches: set[asyncio.Task[None]] = set()

    async def submit(self, item: Item) -> Result:
        """The item's result; Overloaded at once where the queue is full. An error of `run` is raised for every item of its batch."""
        if len(self._queue) >= self._max_waiting:
            raise Overloaded(f"queue: expected at most {self._max_waiting} waiting requests, found as many. Ask again later")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._queue.append((item, future))
        loop.call_soon(self._start)  # not now: items that arrive in the same iteration of the loop join the batch
        return await future

    def _start(self) -> None:
        while len(self._batches) < self._in_flight and (batch := self._next_batch()):
            task = asyncio.create_task(self._run_batch(batch))
            self._batches.add(task)
            task.add_done_callback(self._finished)

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """The next items whose callers still wait."""
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._queue and len(batch) < self._max_batch:
            item, future = self._queue.popleft()
            if not future.done():
                batch.append((item, future))
        return batch

    async def _run_batch(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
        except Exception as error:  # any error is raised where the items were submitted
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._start()
