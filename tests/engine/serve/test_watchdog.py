"""The watchdog, the end of a service and its reaper, over processes that stand for Ray's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.serve.ending import Ending
from engine.serve.family import Family, Process
from engine.serve.watchdog import Watchdog, asks


def eventually(true: Callable[[], bool], within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def a_program(folder: Path, name: str) -> list[str]:
    """A process that the kernel calls `name`."""
    program = folder / name
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o700)
    return [str(program), "60"]


def named(name: str) -> list[Process]:
    return [process for process in Family(os.getpid()).look() if process.name == name]


def watch(healthy: Callable[[], bool], patience_s: float = 60.0) -> tuple[Watchdog, list[str], list[str], threading.Thread]:
    reasons: list[str] = []
    said: list[str] = []
    watchdog = Watchdog(Family(os.getpid()), healthy, reasons.append, said.append, patience_s)
    thread = threading.Thread(target=watchdog.run, daemon=True)
    thread.start()
    return watchdog, reasons, said, thread


def test_a_dead_raylet_is_given_up_within_two_seconds(tmp_path: Path) -> None:
    raylet = subprocess.Popen(a_program(tmp_path, "raylet"))
    assert eventually(lambda: bool(named("raylet")))
    _, reasons, _, thread = watch(lambda: True)
    raylet.kill()
    thread.join(2)
    raylet.wait()
    assert reasons == ["raylet died"]


def test_a_service_without_a_healthy_answer_is_given_up_after_its_patience() -> None:
    _, reasons, _, thread = watch(lambda: False, patience_s=0.2)
    thread.join(3)
    assert len(reasons) == 1
    assert "no healthy answer" in reasons[0]


def test_haproxy_is_started_again_and_ends_when_serve_has_the_next(tmp_path: Path) -> None:
    command = a_program(tmp_path, "haproxy")
    first = subprocess.Popen(command)
    assert eventually(lambda: bool(named("haproxy")))
    watchdog, reasons, said, thread = watch(lambda: True)
    time.sleep(1.2)  # two looks
    first.kill()
    first.wait()
    assert eventually(lambda: bool(named("haproxy")), 2.0)
    [healed] = named("haproxy")
    following = subprocess.Popen(command)
    assert eventually(lambda: healed not in named("haproxy"))
    assert [process.pid for process in named("haproxy")] == [following.pid]
    time.sleep(1.2)  # the watchdog sees the end of its own
    watchdog.stop()
    thread.join(3)
    following.kill()
    following.wait()
    assert (reasons, said) == ([], ["HAProxy died; started again"])


def test_a_family_is_remembered_when_the_parent_is_dead() -> None:
    parent = subprocess.Popen(["sh", "-c", "sleep 61 & wait"])
    family = Family(parent.pid)
    assert eventually(lambda: len(family.look()) == 1)
    parent.kill()
    parent.wait()
    assert len(family.look()) == 1
    assert family.end() == []


PROGRAM = """
import subprocess, sys, time
from engine.serve.family import reaped
with reaped():
    print(subprocess.Popen(["sleep", "62"], start_new_session=True).pid, flush=True)
    time.sleep(1.5)
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["kill -9", "end of the block"])
def test_nothing_outlives_the_main_process(how: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as main:
        assert main.stdout is not None
        assert main.stdin is not None
        child = int(main.stdout.readline())
        time.sleep(1.0)  # the reaper looks twice a second
        if how == "kill -9":
            main.kill()
        main.stdin.close()
        main.wait(20)
    assert eventually(lambda: not Path(f"/proc/{child}").exists() or "\nState:\tZ" in Path(f"/proc/{child}/status").read_text())


def test_a_signal_asks_and_a_second_one_ends_at_once() -> None:
    codes: list[int] = []
    ending = Ending(lambda line: None, codes.append)
    with ending.signals():
        os.kill(os.getpid(), signal.SIGTERM)
        ending.wait()
        assert codes == []
        os.kill(os.getpid(), signal.SIGINT)
        assert eventually(lambda: codes == [0])


def test_the_end_comes_in_time_where_the_orderly_way_does_not_end() -> None:
    codes: list[int] = []
    ending = Ending(lambda line: None, codes.append, end_s=0.1)
    with ending.signals():
        os.kill(os.getpid(), signal.SIGTERM)
        assert eventually(lambda: codes == [0])


def test_giving_up_ends_with_one_unless_a_signal_came() -> None:
    codes: list[int] = []
    said: list[str] = []
    ending = Ending(said.append, codes.append)
    ending.give_up("raylet died")
    assert codes == [1]
    assert said[0].startswith("serve: raylet died")
    with ending.signals():
        os.kill(os.getpid(), signal.SIGTERM)
        ending.wait()
        ending.give_up("no healthy answer")
    assert codes == [1]


def test_a_port_that_refuses_is_not_healthy() -> None:
    assert not asks("http://127.0.0.1:9/healthz")()


def test_a_supervisor_starts_it_again_after_one_and_not_after_zero(tmp_path: Path) -> None:
    """What `Restart=on-failure` of deploy/segue.service does."""
    unit = (Path(__file__).parents[3] / "deploy" / "segue.service").read_text(encoding="utf-8")
    assert "\nRestart=on-failure\n" in unit
    program = (
        "import os, pathlib; from engine.serve.ending import Ending; started = pathlib.Path('started'); "
        "first = not started.exists(); started.touch(); first and Ending(print).give_up('raylet died')"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    codes = []
    while not codes or (codes[-1] != 0 and len(codes) < 5):
        codes.append(subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=False, timeout=60).returncode)
    assert codes == [1, 0]
