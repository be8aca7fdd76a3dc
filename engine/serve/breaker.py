"""Circuit breaker: a stage that failed again and again is not called, until it answers a ping.

Input: calls to one stage, and its ping. Output: their results, or StageDown at once while the stage is known to be down. Nobody
waits for it then: it is pinged in the background, and called again from the first ping that it answers. Knows no stage.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from features.domain import SegueError

T = TypeVar("T")
FAILURES = 3
"""Calls that fail in a row before the stage is not called any more."""
PING_EVERY_S = 0.5
PING_TIMEOUT_S = 1.0
FORGOTTEN_S = 60.0
"""A stage that was not asked for so long, as that of a model no longer served, is pinged no more."""


class StageDown(SegueError):
    """A stage was not called, because it is known to be down."""


class Breaker:
    """Of one stage."""

    def __init__(self, ping: Callable[[], Awaitable[object]]) -> None:
        self._ping = ping
        self._failures, self._last_asked = 0, 0.0
        self._pinging: asyncio.Task[None] | None = None

    @property
    def open(self) -> bool:
        """Whether calls are refused."""
        return self._failures >= FAILURES

    async def call(self, work: Callable[[], Awaitable[T]], *, counts: bool = True) -> T:
        """The result of `work`, or its error; StageDown at once while the breaker is open. `counts`: whether a failure says that
        the stage may be down, which is not so of a call that is much more expensive than others."""
        if self.open:
            self._last_asked = time.monotonic()
            self._ping_in_background()
            raise StageDown(f"not called: it failed {FAILURES} times in a row and does not answer a ping")
        try:
            result = await work()
        except Exception:
            self._failures += counts
            raise
        self._failures = 0
        return result

    def _ping_in_background(self) -> None:
        if self._pinging is None or self._pinging.done():
            self._pinging = asyncio.create_task(self._ping_until_it_answers())

    async def _ping_until_it_answers(self) -> None:
        while time.monotonic() - self._last_asked < FORGOTTEN_S:
            try:
                await asyncio.wait_for(self._ping(), PING_TIMEOUT_S)
            except Exception:  # whatever the error, it is still down
                await asyncio.sleep(PING_EVERY_S)
            else:
                self._failures = FAILURES - 1  # the next failure opens it again
                return
