"""The edge without Ray: HAProxy as `engine.serve.edge` starts it with a configuration of Ray Serve, and a gateway of a few lines."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from engine.serve.cluster import EDGE_IN
from engine.serve.edge import ERRORS, edge
from engine.serve.haproxy import REQUEST_S, SERVES_OWN_HEADERS, UnknownForm, edited
from engine.serve.ports import free_ports, is_free
from engine.serve.problems import MEDIA_TYPE
from tests.engine.serve import listening

OF_RAY = (Path(__file__).parent / "haproxy-of-ray-2.60.cfg").read_text(encoding="utf-8")
"""As Ray 2.60 writes it for one application at `/` with one gateway; what differs from service to service is between @."""
ANSWERS = dict.fromkeys(ERRORS, f"content-type {MEDIA_TYPE}")
IDLE = 2_000
STRANGER, OTHER = "127.0.0.2", "127.0.0.3"
HEAD = b"POST /v1/recommend HTTP/1.1\r\nhost: segue\r\ncontent-length: %d\r\n\r\n"


class Stub(BaseHTTPRequestHandler):
    """Answers with the headers it got; /plain with an error in plain text, as Serve does; takes its time to read a body."""

    protocol_version = "HTTP/1.1"
    waiting: set[int] = set()  # noqa: RUF012
    """Those that read a body."""

    def do_GET(self) -> None:
        plain = self.path == "/plain"
        self._answer(500 if plain else 200, "text/plain; charset=utf-8" if plain else "application/json")

    def do_POST(self) -> None:
        self.waiting.add(id(self))
        try:
            self.rfile.read(int(self.headers["content-length"]))
            self._answer(200, "application/json")
        except ConnectionError:  # the client gave up
            self.close_connection = True
        finally:
            self.waiting.discard(id(self))

    def _answer(self, status: int, kind: str) -> None:
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Edge:
    port: int
    pages: tuple[int, int]
    folder: Path
    process: subprocess.Popen[bytes]

    def connect(self, source: str = "127.0.0.1", sent: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=2 * REQUEST_S, source_address=(source, 0))
        connection.sendall(sent)
        return connection

    def ask(self, path: str = "/", source: str = "127.0.0.1", **more: object) -> httpx.Response:
        with httpx.Client(transport=httpx.HTTPTransport(local_address=source), timeout=2 * REQUEST_S) as client:
            return client.get(f"http://127.0.0.1:{self.port}{path}", **more)  # type: ignore[arg-type]


def placed(config: str, folder: Path, ports: tuple[int, int, int], gateway: int) -> str:
    address, metrics, statistics = ports
    places = {"FOLDER": folder, "ADDRESS": f"127.0.0.1:{address}", "METRICS": metrics, "STATISTICS": statistics, "GATEWAY": gateway}
    for place, value in places.items():
        config = config.replace(f"@{place}@", str(value))
    return config


@contextmanager
def started(gateway: int, config: str = OF_RAY, open_files: int | None = None) -> Iterator[Edge]:
    port, *pages = free_ports(3)
    with TemporaryDirectory(prefix="segue-", dir=EDGE_IN) as name:
        folder = Path(name)
        program = edge(folder)["RAY_SERVE_HAPROXY_BINARY_PATH"]
        (folder / "haproxy.cfg").write_text(placed(config, folder, (port, pages[0], pages[1]), gateway))

        def limit() -> None:
            if open_files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))

        with subprocess.Popen([program, "-db", "-f", str(folder / "haproxy.cfg")], stderr=subprocess.PIPE, preexec_fn=limit) as process:
            try:
                until = time.monotonic() + 10
                while is_free(port):
                    assert process.poll() is None, process.stderr.read() if process.stderr else ""
                    assert time.monotonic() < until
                    time.sleep(0.02)
                yield Edge(port, (pages[0], pages[1]), folder, process)
            finally:
                process.terminate()


WRITTEN = placed(OF_RAY, Path("/tmp/segue"), (8000, 9101, 8404), 30_000)


@pytest.fixture(scope="module")
def gateway() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def service(gateway: int) -> Iterator[Edge]:
    with started(gateway) as running:
        yield running


def is_problem(answer: httpx.Response, status: int) -> str:
    """Its request id."""
    told = answer.json()
    assert (answer.status_code, told["status"], answer.headers["content-type"]) == (status, status, MEDIA_TYPE)
    assert set(told) == {"type", "title", "status", "detail", "request_id"}
    assert told["request_id"] == answer.headers["x-request-id"]
    return str(told["request_id"])


def received(connection: socket.socket) -> bytes:
    """All until HAProxy closes the connection."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def test_only_loopback_is_listened_on_and_only_the_owner_may_enter(service: Edge) -> None:
    found = listening.addresses(listening.below(service.process.pid))
    assert found == {(ip_address("127.0.0.1"), port) for port in (service.port, *service.pages)}
    assert stat.S_IMODE(service.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((service.folder / "admin.sock").stat().st_mode) == 0o600
    for port, path in zip(service.pages, ("/metrics", "/stats"), strict=True):
        assert httpx.get(f"http://127.0.0.1:{port}{path}").status_code == 200


def test_a_request_has_one_id_and_steers_nothing(service: Edge) -> None:
    steering = dict.fromkeys(SERVES_OWN_HEADERS, "1")
    seen = service.ask(headers={"x-request-id": "mine", **steering}).json()
    assert seen["x-request-id"] == "mine"
    assert not set(seen) & set(steering)
    assert len(service.ask(headers={"x-request-id": "not fit to be logged"}).json()["x-request-id"]) == 36


def test_who_answers_an_error_answers_a_problem(service: Edge) -> None:
    assert is_problem(service.ask("/plain", headers={"x-request-id": "mine"}), 500) == "mine"
    is_problem(service.ask(headers={"x-name": b"\xff"}), 400)
    assert service.ask(headers={"x-name": "é".encode()}).status_code == 200


def test_without_a_gateway_or_an_application_it_is_503_and_when_to_come_back() -> None:
    without = OF_RAY[: OF_RAY.index("\nbackend http-segue")] + OF_RAY[OF_RAY.index("\nlisten stats") :]
    without = "\n".join(line for line in without.splitlines() if "http-segue" not in line)
    for config, paths in ((OF_RAY, ("/v1/model",)), (without, ("/v1/model", "/-/healthz"))):
        with started(free_ports(1)[0], config) as service:
            for path in paths:
                answer = service.ask(path)
                is_problem(answer, 503)
                assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.slow
def test_who_asks_nothing_is_sent_away_and_disturbs_nobody(service: Edge) -> None:
    """Idle connections of this very address, half a head, and bodies that stop, small and large."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        start = time.monotonic()
        small = stack.enter_context(service.connect(sent=HEAD % 100 + b"{"))
        half = stack.enter_context(service.connect(sent=HEAD[:30]))
        idle = [stack.enter_context(service.connect()) for _ in range(min(IDLE, hard - 500))]
        took = []
        while time.monotonic() - start < REQUEST_S - 1:
            asked = time.monotonic()
            assert service.ask().status_code == 200
            took.append(time.monotonic() - asked)
            time.sleep(0.02)
        assert sorted(took)[len(took) // 2] < 0.1
        assert b"408" in received(small).split(b"\r\n")[0]
        assert b"408" in received(half).split(b"\r\n")[0]
        assert {received(connection) for connection in idle} == {b""}
        assert REQUEST_S - 1 < time.monotonic() - start < 2 * REQUEST_S
    assert not Stub.waiting


def test_where_connections_are_scarce_nobody_takes_those_of_others(gateway: int) -> None:
    """With 120 open files there are 80 connections; from 70 on, an address has at most five."""
    with ExitStack() as stack, started(gateway, open_files=120) as service:
        for _ in range(100):
            with suppress(ConnectionError):  # refused so early that even connecting fails
                stack.enter_context(service.connect(STRANGER))
        with pytest.raises(httpx.TransportError):
            service.ask(source=STRANGER)
        assert service.ask(source=OTHER).status_code == 200


def test_large_bodies_of_one_address_hold_only_so_many_places(service: Edge) -> None:
    with ExitStack() as stack:
        large = HEAD % 1_000_000 + b" " * 100_000
        stalled = [stack.enter_context(service.connect(STRANGER, large)) for _ in range(80)]
        refused = [connection for connection in stalled if _is_refused(connection)]
        assert len(refused) == 80 - 64
        assert len(Stub.waiting) <= 64
        assert service.ask(source=OTHER).status_code == 200


def _is_refused(connection: socket.socket) -> bool:
    connection.settimeout(0.2)
    try:
        return connection.recv(100).startswith(b"HTTP/1.1 429")
    except TimeoutError:
        return False


def test_nothing_of_a_request_is_sent_anywhere() -> None:
    lines = edited(WRITTEN, ANSWERS, 20_000).splitlines()
    assert not [line for line in lines if line.split()[:1] == ["log"] or "httplog" in line]


def test_an_edited_configuration_stays_and_one_of_another_form_is_refused(tmp_path: Path) -> None:
    once = edited(WRITTEN, ANSWERS, 20_000)
    assert edited(once, ANSWERS, 20_000) == once
    for lost, said in (("listen stats", "listen stats"), ("mode 666", "stats socket"), ("option httplog", "option httplog")):
        with pytest.raises(UnknownForm, match=said):
            edited(WRITTEN.replace(lost, "other"), ANSWERS, 20_000)
    program = edge(tmp_path / "edge")["RAY_SERVE_HAPROXY_BINARY_PATH"]
    (tmp_path / "haproxy.cfg").write_text("global\n    maxconn 1\n")
    run = subprocess.run([program, "-f", tmp_path / "haproxy.cfg"], capture_output=True, text=True, check=False, timeout=30)
    assert run.returncode == 1
    assert len(run.stderr.splitlines()) == 1
    assert os.fspath(tmp_path) in run.stderr


def test_a_node_of_a_cluster_gets_its_settings_as_a_shell_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_HAPROXY_RETRIES", "7")
    monkeypatch.delenv("RAY_SERVE_HAPROXY_MAXCONN")
    command = f'eval "$({sys.executable} -m engine.serve)"; env'
    run = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, timeout=60, cwd=Path(__file__).parents[3])
    settings = dict(line.split("=", 1) for line in run.stdout.splitlines() if line.startswith("RAY_SERVE_"))
    assert (settings["RAY_SERVE_HAPROXY_RETRIES"], settings["RAY_SERVE_HAPROXY_MAXCONN"]) == ("7", "20000")
    program = Path(settings["RAY_SERVE_HAPROXY_BINARY_PATH"])
    assert subprocess.run([program, "-v"], capture_output=True, check=True, timeout=30).stdout.startswith(b"HAProxy")
    shutil.rmtree(program.parent)
