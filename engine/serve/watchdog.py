"""The watchdog of a running service: sees what died, brings HAProxy back, and says when nothing but a new start helps.

Input: the family of this process, and a probe that asks the service for its health. Output: a reason why the service must be
started anew, once, to `give_up`. Where Ray was started by another process, its processes are not of the family, and the probe
alone decides. Knows neither Ray nor Serve, only their processes' names; HAProxy's configuration is taken as it is on disk.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from engine.serve.family import PROC, Family, Process

EVERY_S = 0.5
PATIENCE_S = 20.0
"""How long the service may be without a healthy answer: longer than Serve takes for a new gateway."""
VITAL = ("raylet", "gcs_server")
"""Without these nothing answers and nothing starts anew. An agent takes its raylet with it."""
PROXY = "haproxy"
OVERLAP_S = 2.0
"""How long the HAProxy of the watchdog answers beside the next one of Serve, which knows no gateway at first."""


class Watchdog:
    """Looks every `EVERY_S` until it is stopped or has given up."""

    def __init__(
        self,
        family: Family,
        healthy: Callable[[], bool],
        give_up: Callable[[str], None],
        say: Callable[[str], None],
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._family, self._healthy, self._give_up, self._say, self._patience_s = family, healthy, give_up, say, patience_s
        self._vital = {process for process in family.look() if process.name in VITAL}
        self._command: list[str] = []
        self._own: subprocess.Popen[bytes] | None = None
        self._replaced: float | None = None
        self._stopped = threading.Event()
        self._seen = time.monotonic()

    def run(self) -> None:
        """Returns when it is stopped or has given up."""
        threading.Thread(target=self._probe, name="watchdog-probe", daemon=True).start()
        while not self._stopped.wait(EVERY_S):
            if reason := self._look():
                self._stopped.set()
                self._give_up(reason)

    def stop(self) -> None:
        self._stopped.set()

    def _probe(self) -> None:
        """In a thread of its own: what is frozen answers late, and must not delay the look at the dead."""
        while not self._stopped.wait(EVERY_S):
            if self._healthy():
                self._seen = time.monotonic()

    def _look(self) -> str | None:
        living = self._family.look()
        if dead := self._vital.difference(living):
            return f"{', '.join(sorted(process.name for process in dead))} died"
        self._keep_proxy([process for process in living if process.name == PROXY])
        silent = time.monotonic() - self._seen
        return f"no healthy answer for {silent:.0f} s" if silent > self._patience_s else None

    def _keep_proxy(self, proxies: list[Process]) -> None:
        """Starts HAProxy with the command of the one that died, and ends it when Serve has one again."""
        if self._own is not None and self._own.poll() is not None:
            self._own = self._replaced = None
        others = [process for process in proxies if self._own is None or process.pid != self._own.pid]
        if others:
            self._command = _command(others[0]) or self._command
            if self._own is not None:
                self._replaced = self._replaced or time.monotonic()
                if time.monotonic() - self._replaced > OVERLAP_S:
                    self._own.send_signal(signal.SIGUSR1)  # it ends after the requests it has
        elif self._own is None and self._command and not self._stopped.is_set():
            self._say("HAProxy died; started again")
            self._own = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _command(process: Process) -> list[str]:
    """The program and its arguments, less those that hand over from an earlier process; none where it ended since."""
    try:
        program = os.readlink(PROC / str(process.pid) / "exe")
        arguments = (PROC / str(process.pid) / "cmdline").read_bytes().decode().split("\0")[1:-1]
    except OSError:
        return []
    kept: list[str] = []
    hands_over = False
    for argument in arguments:
        hands_over = argument in ("-sf", "-st", "-x") or (hands_over and not argument.startswith("-"))
        if not hands_over:
            kept.append(argument)
    return [str(Path(program)), *kept]


def asks(url: str, timeout_s: float = 2.0) -> Callable[[], bool]:
    """A probe: whether `url` is answered with 200 within `timeout_s`."""

    def healthy() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=timeout_s) as answer:
                return bool(answer.status == 200)
        except (OSError, ValueError):  # refused, too late, or an error status
            return False

    return healthy
