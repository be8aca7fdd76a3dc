from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from features.domain import SegueError
from features.processes import done_by_processes

ROOT = Path(__file__).parents[2]


def own_pid(_: int) -> int:
    return os.getpid()


def noisy(item: int) -> int:
    print("between", "the results", flush=True)
    return item * item


def touched(path: Path) -> bytes:
    """More than a pipe holds."""
    path.touch()
    return bytes(1 << 20)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("processes", [0, 1, 2, 3])
def test_results_come_in_the_order_of_the_items_whatever_is_printed(processes: int) -> None:
    with done_by_processes(noisy, range(7), processes) as results:
        assert list(results) == [0, 1, 4, 9, 16, 25, 36]


def test_no_items_have_no_results() -> None:
    with done_by_processes(noisy, [], 2) as results:
        assert list(results) == []


def test_the_processes_are_others_and_gone_when_the_block_is_left() -> None:
    with done_by_processes(own_pid, range(2_000_000_000), 2) as results:
        pids = [next(results) for _ in range(4)]
    assert len(set(pids)) == 2
    assert os.getpid() not in pids
    assert not any(is_running(pid) for pid in pids)


def test_what_is_under_way_is_bounded(tmp_path: Path) -> None:
    items = [tmp_path / f"{i:02}" for i in range(20)]
    with done_by_processes(touched, items, 2) as results:
        for _ in range(3):
            next(results)
        time.sleep(0.2)
        assert len(list(tmp_path.iterdir())) <= 3 + 2


def test_an_error_is_raised_with_where_it_was() -> None:
    with done_by_processes(int, ["1", "x", "2"], 2) as results, pytest.raises(ValueError, match="invalid literal") as raised:
        list(results)
    assert "in _tried" in raised.value.__notes__[0]


@pytest.mark.parametrize(
    ("work", "item", "how"), [(signal.raise_signal, signal.SIGKILL, "killed by signal 9"), (os._exit, 3, "ended with exit code 3")]
)
def test_a_process_that_dies_is_named(work: object, item: int, how: str) -> None:
    with (
        done_by_processes(work, [item] * 4, 2) as results,  # type: ignore[arg-type]
        pytest.raises(SegueError, match=f"worker process: expected a result, found it {how}"),
    ):
        list(results)


def test_processes_do_not_outlive_the_one_that_asked(tmp_path: Path) -> None:
    """A script without `if __name__ == "__main__"`, killed before it could end them."""
    script = tmp_path / "script.py"
    script.write_text("""if True:
        import os
        from features.processes import done_by_processes
        from tests.features.test_processes import own_pid
        with done_by_processes(own_pid, range(10**9), 2) as results:
            print(next(results), next(results), flush=True)
            os.kill(os.getpid(), 9)
    """)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    pids = [int(pid) for pid in done.stdout.split()]
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (len(pids), done.returncode, done.stderr) == (2, -9, "")
    assert not any(is_running(pid) for pid in pids)
