"""Queues: what travels together, what a queue may hold, who is refused, and who is not waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np
import pytest

from engine.answer.ranking import RankOptions
from engine.serve import cost
from engine.serve.admission import Admission
from engine.serve.batching import Batcher, Overloaded
from engine.serve.breaker import FAILURES, Breaker, StageDown
from features.domain import Query


def test_what_arrives_while_batches_fly_travels_together() -> None:
    async def story() -> list[list[int]]:
        batches: list[list[int]] = []
        landing = asyncio.Event()

        async def run(items: Sequence[int]) -> Sequence[int]:
            batches.append(list(items))
            await landing.wait()
            return [item * 10 for item in items]

        batcher = Batcher(run, max_batch=4, in_flight=1, max_waiting=100)
        first = asyncio.create_task(batcher.submit(0))
        await asyncio.sleep(0.01)  # a lone item starts at once
        assert batches == [[0]]
        others = [asyncio.create_task(batcher.submit(i)) for i in range(1, 8)]
        await asyncio.sleep(0.01)
        assert batches == [[0]]
        landing.set()
        assert await asyncio.gather(first, *others) == [i * 10 for i in range(8)]
        return batches

    assert asyncio.run(story()) == [[0], [1, 2, 3, 4], [5, 6, 7]]


def test_one_more_than_may_wait_is_refused() -> None:
    async def story() -> None:
        async def run(items: Sequence[int]) -> Sequence[int]:
            await asyncio.sleep(0.05)
            return items

        batcher = Batcher(run, max_batch=1, in_flight=1, max_waiting=2)
        flying = asyncio.create_task(batcher.submit(0))
        await asyncio.sleep(0.01)
        waiting = [asyncio.create_task(batcher.submit(i)) for i in (1, 2)]
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded, match="expected waiting requests of a cost below 2, found 2 requests of 2"):
            await batcher.submit(3)
        assert await asyncio.gather(flying, *waiting) == [0, 1, 2]

    asyncio.run(story())


def test_a_failed_batch_fails_its_items_and_no_other_and_a_lost_caller_costs_nothing() -> None:
    async def story() -> list[list[int]]:
        batches: list[list[int]] = []

        async def run(items: Sequence[int]) -> Sequence[int]:
            batches.append(list(items))
            await asyncio.sleep(0.01)
            if 0 in items:
                raise ValueError("zero")
            return items

        batcher = Batcher(run, max_batch=1, in_flight=1, max_waiting=10)
        tasks = [asyncio.create_task(batcher.submit(i)) for i in range(3)]
        await asyncio.sleep(0.001)
        tasks[1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], ValueError)
        assert isinstance(results[1], asyncio.CancelledError)
        assert results[2] == 2
        return batches

    assert asyncio.run(story()) == [[0], [2]]


def test_a_batch_and_the_queue_are_bounded_by_cost_and_a_dear_item_travels_alone() -> None:
    async def story() -> list[list[float]]:
        batches: list[list[float]] = []

        async def run(items: Sequence[float]) -> Sequence[float]:
            batches.append(list(items))
            await asyncio.sleep(0.01)
            return items

        batcher = Batcher(run, max_batch=4, in_flight=1, max_waiting=20)
        await asyncio.gather(*(batcher.submit(cost, cost) for cost in (1, 9, 2, 1.5, 1, 3)))
        waiting = [asyncio.create_task(batcher.submit(cost, cost)) for cost in (0.5, 0.5, 1, 19)]
        await asyncio.sleep(0)
        assert batcher.full
        with pytest.raises(Overloaded, match="cost below 20, found 4 requests of 21"):
            await batcher.submit(0.1, 0.1)
        await asyncio.gather(*waiting)
        assert not batcher.full
        return batches

    assert asyncio.run(story()) == [[1], [9], [2, 1.5], [1, 3], [0.5, 0.5, 1], [19]]


def test_a_batch_that_nobody_waits_for_is_cancelled_and_the_next_one_starts() -> None:
    async def story() -> None:
        cancelled = list[int]()

        async def run(items: Sequence[int]) -> Sequence[int]:
            try:
                await asyncio.sleep(0.02 if 9 in items else 60)
            except asyncio.CancelledError:
                cancelled.extend(items)
                raise
            return items

        batcher = Batcher(run, max_batch=2, in_flight=1, max_waiting=10)
        first, second = (asyncio.create_task(batcher.submit(i)) for i in (1, 2))
        await asyncio.sleep(0.01)
        last = asyncio.create_task(batcher.submit(9))
        first.cancel()
        await asyncio.sleep(0.01)
        assert cancelled == []  # somebody still waits
        second.cancel()
        assert await asyncio.wait_for(last, 1.0) == 9
        assert cancelled == [1, 2]

    asyncio.run(story())


def test_who_finds_no_room_is_told_after_a_pause_unless_there_is_room_by_then() -> None:
    async def story() -> None:
        full = True
        admission = Admission(lambda: full, pause_s=0.05)
        start = time.monotonic()
        with pytest.raises(Overloaded):
            await admission.enter()
        assert time.monotonic() - start >= 0.05
        waiting = asyncio.create_task(admission.enter())
        await asyncio.sleep(0.01)
        full = False
        await waiting

    asyncio.run(story())


def test_a_breaker_opens_after_failures_in_a_row_and_closes_when_the_stage_answers() -> None:
    async def story() -> None:
        down, calls = True, 0

        async def work() -> int:
            nonlocal calls
            calls += 1
            if down:
                raise ConnectionError("gone")
            return 7

        async def ping() -> None:
            if down:
                raise ConnectionError("gone")

        breaker = Breaker(ping)
        for _ in range(2 * FAILURES):
            with pytest.raises(ConnectionError):
                await breaker.call(work, counts=False)
        for _ in range(FAILURES):
            assert not breaker.open
            with pytest.raises(ConnectionError):
                await breaker.call(work)
        with pytest.raises(StageDown, match="failed 3 times in a row"):
            await breaker.call(work)
        assert calls == 3 * FAILURES
        down = False
        async with asyncio.timeout(5):
            while breaker.open:
                await asyncio.sleep(0.05)
        assert await breaker.call(work) == 7

    asyncio.run(story())


def test_an_ordinary_request_costs_about_one_and_whatever_makes_it_dearer_counts() -> None:
    def of(seeds: int = 10, k: int = 10, candidates: int = 500, excluded: int = 0, explain: bool = False) -> float:
        query = Query(np.arange(seeds, dtype=np.int32), exclude=np.arange(excluded, dtype=np.int32))
        return cost.of_query(query, RankOptions(k, k, explain=explain), candidates)

    assert of() == pytest.approx(1, abs=0.3)
    assert of() < of(explain=True) < cost.LARGE
    assert all(
        expensive > cost.LARGE
        for expensive in (of(k=500, candidates=4_000), of(1_000, 500, 4_000), of(k=500, candidates=4_000, explain=True))
    )
    assert of(excluded=10_000) > of()
