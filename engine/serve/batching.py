"""Micro-batching without a timer: items that arrive while a batch runs form the next batch.

Input: items one at a time with what each costs, from many tasks of one event loop. Output: each item's own result. A lone item
starts at once; under load batches grow without waiting, which is when they save work. What a batch and the queue may hold is
bounded by cost, so that one expensive item counts as the many cheap ones it keeps waiting. Independent of what an item is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from features.domain import SegueError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Overloaded(SegueError):
    """The queue is full."""


@dataclass(frozen=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    cost: float
    result: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """Calls `run` with items that cost at most `max_batch` together, or with one that costs more; with at most `in_flight` batches
    at once, and while items of at most `max_waiting` wait. A batch for which nobody waits any more is cancelled."""

    def __init__(
        self, run: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], max_batch: float, in_flight: int, max_waiting: float
    ) -> None:
        self._run, self._max_batch, self._in_flight, self._max_waiting = run, max_batch, in_flight, max_waiting
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._queued_cost = 0.0
        self._batches: set[asyncio.Task[None]] = set()

    @property
    def full(self) -> bool:
        """Whether the next item would be refused, whatever it costs."""
        return self._queued_cost >= self._max_waiting

    async def submit(self, item: Item, cost: float = 1.0) -> Result:
        """The item's result; Overloaded at once where the queue is full. An error of `run` is raised for every item of its batch."""
        if self.full:
            found = f"{len(self._queue)} requests of {self._queued_cost:.0f}"
            raise Overloaded(f"queue: expected waiting requests of a cost below {self._max_waiting:g}, found {found}. Ask again later")
        loop = asyncio.get_running_loop()
        waiting: _Waiting[Item, Result] = _Waiting(item, cost, loop.create_future())
        self._queue.append(waiting)
        self._queued_cost += cost
        loop.call_soon(self._start)  # not now: items that arrive in the same iteration of the loop join the batch
        return await waiting.result

    def _start(self) -> None:
        while len(self._batches) < self._in_flight and (batch := self._next_batch()):
            task = asyncio.create_task(self._run_batch(batch))
            self._batches.add(task)
            task.add_done_callback(self._finished)
            for one in batch:
                one.result.add_done_callback(lambda _, task=task, batch=batch: _cancel_unwanted(task, batch))  # type: ignore[misc]

    def _next_batch(self) -> list[_Waiting[Item, Result]]:
        """The next items whose callers still wait."""
        batch: list[_Waiting[Item, Result]] = []
        cost = 0.0
        while self._queue and (not batch or cost + self._queue[0].cost <= self._max_batch):
            waiting = self._queue.popleft()
            self._queued_cost = self._queued_cost - waiting.cost if self._queue else 0.0  # nothing is left of roundings
            if not waiting.result.done():
                batch.append(waiting)
                cost += waiting.cost
        return batch

    async def _run_batch(self, batch: Sequence[_Waiting[Item, Result]]) -> None:
        try:
            results = await self._run([waiting.item for waiting in batch])
            for waiting, result in zip(batch, results, strict=True):
                if not waiting.result.done():
                    waiting.result.set_result(result)
        except Exception as error:  # any error is raised where the items were submitted
            for waiting in batch:
                if not waiting.result.done():
                    waiting.result.set_exception(error)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._start()


def _cancel_unwanted(task: asyncio.Task[None], batch: Sequence[_Waiting[Item, Result]]) -> None:
    if all(waiting.result.cancelled() for waiting in batch):
        task.cancel()
