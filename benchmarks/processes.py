"""What the processes of a service cost: CPU seconds and resident memory, by what each process is for.

Input: /proc (Linux), and a process whose descendants are the service. Output: figures per group. Knows no service but by
the titles that Ray gives its processes.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
"""CPU time is told in so many parts of a second."""
REPLICA = re.compile(r"ray::ServeReplica:[^:]+:([\w-]+)")
GROUPS = {
    "ray::ServeController": "controller",
    "ray::ProxyActor": "proxy",
    "ray::HAProxyManager": "proxy",
    "haproxy": "HAProxy",
    "multiprocessing": "web server",
    "uvicorn": "web server",
}
"""Of what is no replica: by the first of these that its command holds."""
REST = "rest"


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    cpu_seconds: float
    command: str


class Memory(NamedTuple):
    """Bytes in memory: shared ones counted in full by everybody who has them (RSS), or by each their part (PSS)."""

    rss: int
    pss: int


def running(proc: Path = PROC) -> dict[int, Process]:
    """Every process by its id; one that ends meanwhile is left out."""
    found = {}
    for folder in proc.iterdir():
        if folder.name.isdecimal():
            try:
                found[int(folder.name)] = _process(folder)
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def _process(folder: Path) -> Process:
    """The name, in parentheses, may itself hold blanks and parentheses; what follows it may not."""
    of = (folder / "stat").read_text().rpartition(")")[2].split()
    parent, user, system = int(of[1]), int(of[11]), int(of[12])
    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return Process(int(folder.name), parent, (user + system) / TICKS, command)


def descendants(processes: Mapping[int, Process], root: int) -> list[Process]:
    """Of the process `root`, without itself."""
    children = defaultdict(list)
    for process in processes.values():
        children[process.parent].append(process)
    found, line = [], [root]
    while line:
        below = children[line.pop()]
        found += below
        line += [process.pid for process in below]
    return found


def group(command: str) -> str:
    """A replica's deployment, or what else the process is for."""
    replica = REPLICA.search(command)
    return replica[1] if replica else next((name for part, name in GROUPS.items() if part in command), REST)


def cpu_seconds(processes: Iterable[Process]) -> dict[str, float]:
    """Per group, since its processes started."""
    seconds: dict[str, float] = defaultdict(float)
    for process in processes:
        seconds[group(process.command)] += process.cpu_seconds
    return dict(sorted(seconds.items()))


def resident(processes: Iterable[Process], proc: Path = PROC) -> dict[str, Memory]:
    """Per group; takes milliseconds of CPU for each process."""
    memory: dict[str, Memory] = {}
    for process in processes:
        name, own = group(process.command), _memory(proc / str(process.pid))
        before = memory.get(name, Memory(0, 0))
        memory[name] = Memory(before.rss + own.rss, before.pss + own.pss)
    return dict(sorted(memory.items()))


def _memory(folder: Path) -> Memory:
    """Nothing of a process that has ended."""
    try:
        lines = (folder / "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return Memory(0, 0)
    kilobytes = {name: int(of[0]) for name, *of in (line.split() for line in lines) if name in ("Rss:", "Pss:")}
    return Memory(kilobytes.get("Rss:", 0) * 1024, kilobytes.get("Pss:", 0) * 1024)


def busy_seconds(proc: Path = PROC) -> float:
    """CPU seconds of the whole machine since it started, whoever took them."""
    user, nice, system, _, _, interrupts, soft = map(int, (proc / "stat").read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + interrupts + soft) / TICKS
