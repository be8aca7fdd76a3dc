"""A service finds free ports beside another one, and leaves alone what the environment sets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from engine.serve import ports
from engine.serve.ports import REPLICA_PORTS, SERVE_PORTS, free_port, free_ports, is_free, moved_ports, own_ports, require_free
from features.domain import SegueError

STATS, METRICS, FALLBACK = SERVE_PORTS


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on, on every interface, as HAProxy does."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(("", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.fixture(autouse=True)
def usual_ports_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs on this machine."""
    for setting, port in zip(SERVE_PORTS, free_ports(3), strict=True):
        monkeypatch.setitem(SERVE_PORTS, setting, port)


def test_free_ports_are_free_and_different(taken: int) -> None:
    found = free_ports(20)
    assert len(set(found)) == 20
    assert all(is_free(port) for port in found)
    assert is_free(free_port())
    assert not is_free(taken)
    with pytest.raises(SegueError, match=f"--port: expected a free port, found {taken} in use. Choose another with --port"):
        require_free(taken)


def test_ports_of_a_services_own_are_free_and_apart_from_the_usual_ones() -> None:
    settings = own_ports()
    assert set(settings) == {*SERVE_PORTS, *REPLICA_PORTS}
    assert all(is_free(int(settings[name])) for name in SERVE_PORTS)
    first, last = (int(settings[name]) for name in REPLICA_PORTS)
    assert last - first == 999
    assert last < 30_000  # where Serve's usual range begins


def test_nothing_moves_where_the_usual_ports_are_free() -> None:
    assert moved_ports({}) == {}


def test_where_a_usual_port_is_taken_all_move(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    monkeypatch.setitem(SERVE_PORTS, METRICS, taken)
    assert set(moved_ports({})) == {*SERVE_PORTS, *REPLICA_PORTS}


def test_what_the_environment_sets_stays(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    monkeypatch.setitem(SERVE_PORTS, METRICS, taken)
    assert STATS not in moved_ports({STATS: "1234"})
    assert moved_ports({STATS: "1234", METRICS: str(taken), FALLBACK: "1235"}) == {}


def test_a_range_in_which_somebody_listens_is_not_chosen(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    monkeypatch.setattr(ports, "REPLICA_RANGES", range(taken - 1, 65_000, 100))
    assert int(own_ports()[REPLICA_PORTS[0]]) != taken - 1
