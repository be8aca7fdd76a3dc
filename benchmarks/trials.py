"""Something done in a process of its own, which may end as it likes: with a result, one line, a traceback, a signal, or never.

Input: what to do, and how long it may take. Output: how it ended. The process is a fork of this one, so that whatever is imported and
compiled here is so there: a trial costs milliseconds. Keep this process without threads of its own. Knows not what is done.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from features.domain import SegueError

MEMORY = 6 << 30
"""Bytes that a trial may use beside what this process has."""
Ended = Literal["result", "refused", "machine", "traceback", "signal", "hang"]


@dataclass(frozen=True)
class Trial:
    """How it ended."""

    ended: Ended
    said: Any
    """The result; the line of a SegueError, or of what the machine refused; a traceback; or the signal's name."""


def tried(do: Callable[[], Any], seconds: int) -> Trial:
    """What becomes of `do`, whose result goes through JSON, in at most so many seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        report, heard = Path(scratch, "report"), Path(scratch, "heard")
        child = os.fork()
        if not child:
            _child(do, seconds, report, heard)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            said = f"{name} {heard.read_text(errors='replace')[-500:]}".strip() if heard.exists() else name
            return Trial("hang" if name == "SIGALRM" else "signal", said)
        ended, said = json.loads(report.read_text()) if report.exists() else ("traceback", heard.read_text(errors="replace"))
        return Trial(ended, said)


def _child(do: Callable[[], Any], seconds: int, report: Path, heard: Path) -> NoReturn:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends a loop of machine code too
    signal.alarm(seconds)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with heard.open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    report.write_text(_ended(do))
    os._exit(0)


def _ended(do: Callable[[], Any]) -> str:
    try:
        return json.dumps(["result", do()], allow_nan=False)  # as an answer over HTTP
    except SegueError as error:
        return json.dumps(["traceback" if "\n" in str(error) else "refused", str(error)])
    except (OSError, MemoryError):
        return json.dumps(["machine", traceback.format_exc()])
    except BaseException:
        return json.dumps(["traceback", traceback.format_exc()])
