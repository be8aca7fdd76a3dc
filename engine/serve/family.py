"""The processes that one process started, its whole family; as a program, the reaper that ends them when that process is gone.

Input: a process id. Output: which of its descendants live, by name, and their end. Descendants are remembered, so that they are
found when the ones between are dead. As a program it waits for the end of its standard input, which comes however the process
that holds the other end dies. Reads /proc: on a system without one, no family is seen. Imports the standard library alone, for
the program must start in milliseconds. Knows neither Ray nor HAProxy.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class Process:
    """One process; `started` in clock ticks after boot tells it from a later one with the same id."""

    pid: int
    started: int
    name: str
    """The kernel's name of it, at most 15 characters."""


class Family:
    """The descendants of `root` that live, or lived at one of the earlier looks."""

    def __init__(self, root: int) -> None:
        self.root = root
        self._known: dict[int, Process] = {}

    def look(self) -> list[Process]:
        """Those that live now, without zombies."""
        living = dict(_living())
        members = {pid for pid, known in self._known.items() if pid in living and living[pid][1].started == known.started}
        grew = True
        while grew:
            found = {pid for pid, (parent, _) in living.items() if (parent == self.root or parent in members) and pid not in members}
            members |= found
            grew = bool(found)
        self._known = {pid: living[pid][1] for pid in members if pid != os.getpid()}
        return list(self._known.values())

    def end(self, patience_s: float = 3.0) -> list[Process]:
        """Kills them all, those that appear meanwhile too; the ones that live after `patience_s`."""
        deadline = time.monotonic() + patience_s
        while (living := self.look()) and time.monotonic() < deadline:
            for process in living:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.02)
        return living


def _living() -> Iterator[tuple[int, tuple[int, Process]]]:
    """Process ids with the parent's id and the process."""
    for folder in PROC.glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:  # it ended since
            continue
        head, _, tail = text.rpartition(")")  # a name may hold spaces and brackets
        fields = tail.split()
        if fields[0] not in "ZX":
            pid = int(folder.name)
            yield pid, (int(fields[1]), Process(pid, int(fields[19]), head.partition("(")[2]))


@contextmanager
def reaped() -> Iterator[None]:
    """Whatever this process starts within the block ends with the block, or with this process, kill -9 included."""
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid())]
    # A session of its own: Ctrl-C in a terminal reaches every process of the foreground group.
    reaper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        if reaper.stdin is not None:
            reaper.stdin.close()
        reaper.wait()


def main() -> None:
    """Looks at the family of the process in the first argument until standard input ends, then ends the family."""
    family = Family(int(sys.argv[1]))
    while not select.select([sys.stdin], [], [], LOOK_EVERY_S)[0]:
        family.look()
    family.end()


if __name__ == "__main__":
    main()
