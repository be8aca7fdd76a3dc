"""How a service ends: at a signal, at a second one at once, and in any case in time.

Input: SIGINT and SIGTERM, or a reason to give up. Output: an event to wait for, and the end of the process where the orderly way
takes too long. Signals are read from a file descriptor by a thread: Python calls a handler only between two steps of the main
thread, which may be deep in a library that waits for a dead process. Independent of Ray.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

END_S = 12.0
"""From a signal to the end of this process; its reaper has three more seconds for what is left of its family."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Ending:
    """The end of this process; `leave` gets the exit code and must not return."""

    def __init__(self, say: Callable[[str], None], leave: Callable[[int], None] = os._exit, end_s: float = END_S) -> None:
        self._say, self._leave, self._end_s = say, leave, end_s
        self._asked = threading.Event()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask for the end within the block, whoever sets another handler meanwhile. Main thread only."""
        reads, writes = socket.socketpair()
        writes.setblocking(False)
        handlers = {number: signal.signal(number, _leave_to_the_thread) for number in SIGNALS}
        earlier = signal.set_wakeup_fd(writes.fileno(), warn_on_full_buffer=False)
        listener = threading.Thread(target=self._listen, args=(reads,), name="signals", daemon=True)
        listener.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(earlier)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            writes.close()
            listener.join()
            reads.close()

    def wait(self) -> None:
        """Until the end is asked for."""
        for number in SIGNALS:  # Ray has installed a SIGTERM handler that aborts
            signal.signal(number, _leave_to_the_thread)
        self._asked.wait()

    def give_up(self, reason: str) -> None:
        """Ends this process with 1, at once: nothing that is dead can be stopped in order. Nothing after a signal."""
        if not self._asked.is_set():
            self._say(f"serve: {reason}; ends with 1, so that a supervisor starts it anew")
            self._now(1)

    def _listen(self, reads: socket.socket) -> None:
        late: threading.Timer | None = None
        while received := reads.recv(1):
            if received[0] not in SIGNALS:
                continue
            if late is not None:
                self._now(0)
            late = threading.Timer(self._end_s, self._now, (0,))
            late.daemon = True
            late.start()
            self._asked.set()
        if late is not None:
            late.cancel()

    def _now(self, code: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._leave(code)


def _leave_to_the_thread(number: int, frame: object) -> None:
    """The file descriptor has the signal already."""
