"""A parallel map over processes that keeps the order of the items.

Input: a function, its items, a number of processes. Output: the results. Items are dealt out in turn; a process that nobody takes
results from stops when its pipe is full, so what is under way is bounded however many items there are.
Knows nothing of the work.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from features.domain import SegueError

Item = TypeVar("Item")
Result = TypeVar("Result")

_PROGRAM = "from features.processes import answer; answer()"


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def done_by_processes(work: Callable[[Item], Result], items: Sequence[Item], processes: int) -> Iterator[Iterator[Result]]:
    """`work(item)` of every item, in order; in this process where `processes` is below 2. The processes end with the block.

    They are fresh interpreters of one thread: a script needs no `if __name__ == "__main__"`, but `work` must be importable
    from a module. An error in one of them is raised here, and one that dies is a SegueError. About half a second to start.
    """
    if processes < 2:
        yield map(work, items)
        return
    with ExitStack() as stack:
        started = [stack.enter_context(_process(work, items[i::processes])) for i in range(min(processes, len(items)))]
        yield (_result(started[i % len(started)]) for i in range(len(items)))


@contextmanager
def _process(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "POLARS_MAX_THREADS": "1"}
    with tempfile.TemporaryFile() as job:
        pickle.dump((work, items), job)
        job.seek(0)
        # in a session of its own, Ctrl-C on a terminal reaches this process alone, which then ends the other
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM], stdin=job, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _result(process: subprocess.Popen[bytes]) -> Any:
    assert process.stdout is not None
    try:
        result = pickle.load(process.stdout)
    except (EOFError, pickle.UnpicklingError) as error:
        ended = process.wait()
        how = f"killed by signal {-ended}" if ended < 0 else f"ended with exit code {ended}"
        raise SegueError(f"worker process: expected a result, found it {how}. Usually memory ran out: close other programs") from error
    if isinstance(result, Exception):
        raise result
    return result


def answer() -> None:
    """The whole life of a process: reads the job from stdin, writes the results to stdout until there are no more items."""
    work, items = pickle.load(sys.stdin.buffer)
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints must not come between the results
    try:
        for item in items:
            pickle.dump(_tried(work, item), results, protocol=pickle.HIGHEST_PROTOCOL)
            results.flush()
    except BrokenPipeError:  # whoever asked is gone
        os._exit(1)


def _tried(work: Callable[[Item], Result], item: Item) -> Result | Exception:
    try:
        return work(item)
    except Exception as error:
        error.add_note(traceback.format_exc())
        return error
