"""TCP ports of this machine: which are free, and which ones a service gets beside a service that already runs.

HAProxy shares a port that another HAProxy listens on, and each of them gets a part of the requests. So every port is checked
before a service starts. Independent of Ray.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import ExitStack

from engine.local_ray import LOOPBACK
from features.domain import SegueError

SERVE_PORTS = {
    "RAY_SERVE_HAPROXY_STATS_PORT": 8404,
    "RAY_SERVE_HAPROXY_METRICS_PORT": 9101,
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": 8500,
}
"""Ports that Serve opens on a node beside the one of the service, by the setting that moves them: two of HAProxy, and that of a proxy
in Python, which Serve starts beside HAProxy and to which HAProxy sends nothing here."""
REPLICA_PORTS = ("RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT", "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT")
"""The settings for the range from which gateway replicas get their ports. Two services must not share a range: one of them may
get a port that the other's HAProxy still sends requests to."""
REPLICA_RANGES = range(20_000, 30_000, 1_000)
"""Where the ranges of further services begin; the usual one is 30000 to 31000."""
REPLICAS_CHECKED = 20
"""Ports at the beginning of a range; replicas get the lowest ones."""


def free_ports(count: int) -> list[int]:
    """Different free ports, chosen by the system."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free_port() -> int:
    return free_ports(1)[0]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a service that has just stopped do not matter
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def require_free(port: int, setting: str = "--port") -> None:
    if not is_free(port):
        raise SegueError(f"{setting}: expected a free port, found {port} in use. Choose another with {setting}")


def own_ports() -> dict[str, str]:
    """Settings by which a service gets free ports for Serve's proxies and a range of its own for its replicas."""
    proxies = zip(SERVE_PORTS, free_ports(len(SERVE_PORTS)), strict=True)
    start = next((start for start in REPLICA_RANGES if _is_free_range(start)), REPLICA_RANGES[0])
    replicas = zip(REPLICA_PORTS, (start, start + REPLICA_RANGES.step - 1), strict=True)
    return {name: str(port) for name, port in (*proxies, *replicas)}


def moved_ports(environment: Mapping[str, str]) -> dict[str, str]:
    """`own_ports` where a usual port of Serve is taken, most likely by another service; none where `environment` sets them."""
    usual = {name: port for name, port in SERVE_PORTS.items() if name not in environment}
    if all(is_free(port) for port in usual.values()):
        return {}
    return {name: port for name, port in own_ports().items() if name not in environment}


def _is_free_range(start: int) -> bool:
    return all(is_free(port) for port in range(start, start + REPLICAS_CHECKED))
