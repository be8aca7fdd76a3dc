"""Admission: lets requests in while there is room for them, before their bodies are parsed.

Input: whether the queue is full, and who wants in. Output: nothing, or Overloaded after a pause. Who is refused at once comes back
at once, and many refused clients then take the time of those who are let in; a pause costs nothing. Knows no request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.serve.batching import Overloaded

PAUSE_S = 1.0
"""How long a refusal takes; who finds room afterwards is let in."""
MOST_PAUSING = 2_000
"""Further ones are refused at once, which bounds the connections that are held."""


class Admission:
    """Of one queue."""

    def __init__(self, full: Callable[[], bool], pause_s: float = PAUSE_S) -> None:
        self._full, self._pause_s, self._pausing = full, pause_s, 0

    async def enter(self) -> None:
        """Returns where there is room, at once or after the pause; else Overloaded."""
        if self._full() and self._pausing < MOST_PAUSING:
            self._pausing += 1
            try:
                await asyncio.sleep(self._pause_s)
            finally:
                self._pausing -= 1
        if self._full():
            raise Overloaded("queue: expected room for one more request, found none. Ask again later")
