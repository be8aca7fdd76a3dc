"""Ray and Ray Serve: the settings they need, and how they are found, started and stopped.

Input: the environment (RAY_ADDRESS and the settings of Serve). Output: a Ray and a Serve that run for the length of a `with` block.
A Ray that is started here is reachable from this machine alone. Whatever ran before is left running. Importing this module starts
nothing. Independent of models.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine.local_ray import AUTH_MODE, LOOPBACK, LOOPBACK_ONLY, authenticated, is_loopback, private_token
from engine.serve.api_keys import keys_from_environment
from engine.serve.edge import edge
from engine.serve.ports import SERVE_PORTS, moved_ports, require_free
from engine.serve.protocols import last_line
from features.domain import SegueError

ENVIRONMENT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A replica that stops waits so long for HAProxy to notice; the default of 30 is for load balancers in front of HAProxy.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    # When a gateway dies, HAProxy sends its requests to the next one: no request changes anything, so that each may be sent twice.
    # HAProxy does so only for a request that it has read whole before it passed it on: engine.serve.haproxy has it wait for that.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response response-timeout",
    "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "8",  # longer than any answer takes: see ServeArgs.deadline_s
    "RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S": "1",
    "RAY_SERVE_HAPROXY_RETRIES": "5",
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "10",  # that a client may neither send nor take anything; the default is an hour
    "RAY_SERVE_HAPROXY_MAXCONN": "20000",  # or as many as the limit of open files allows
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "65536",  # bytes; nearly every request and answer fits
    # Each gateway counts its own requests. Otherwise HAProxy sends a line for each to a process that counts them, in Python.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # Fine buckets of the latency histogram where the latencies of this service are.
    "RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS": "1,2,5,10,15,20,30,40,60,80,100,150,200,300,500,1000,2000,5000",
}
"""Settings of Ray and Serve. They must be in the environment of every node before Ray starts: Serve reads them when it is imported."""
OPEN_RAY = "SEGUE_ANYBODY_ON_THE_NETWORK_MAY_RUN_CODE"
"""1: serve also on a Ray that asks nobody for a token and that other machines reach."""


EDGE_IN = "/tmp"
"""Where HAProxy's folders are. The path of a socket may have about a hundred characters, and Serve's take most of them."""


@contextmanager
def environment(say: Callable[[str], None] | None = None) -> Iterator[None]:
    """`os.environ` with what Ray and Serve need, for the length of the block; `say` hears the settings.

    What the caller's environment sets has precedence. A Ray that is to be started also gets ports that are free, listens on the
    loopback interface only, and starts HAProxy out of a folder of its own, which is removed at the end.
    """
    with ExitStack() as stack:
        own, moved, haproxy = ENVIRONMENT, dict[str, str](), dict[str, str]()
        if not _has_ray():
            own, moved = ENVIRONMENT | LOOPBACK_ONLY, moved_ports(os.environ)
            haproxy = edge(stack.enter_context(_private_folder()))
        settings = {name: os.environ.get(name, value) for name, value in own.items()} | moved
        if say:
            say("Ray Serve with " + " ".join(f"{name}={value}" for name, value in settings.items()))
        if say and moved:
            chosen = ", ".join(f"{moved[name]} for {usual}" for name, usual in SERVE_PORTS.items() if name in moved)
            say(f"Usual ports of Serve are in use, perhaps by another service; chosen instead: {chosen}")
        stack.enter_context(_set(settings | haproxy))
        yield


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Held by a lock, because systemd removes from /tmp what is old and nobody has locked."""
    with TemporaryDirectory(prefix="segue-", dir=EDGE_IN, ignore_cleanup_errors=True) as name:
        held = os.open(name, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_SH)
        try:
            yield Path(name)
        finally:
            os.close(held)


@contextmanager
def _set(settings: Mapping[str, str]) -> Iterator[None]:
    """`os.environ` with the settings, and as it was at the end."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _has_ray() -> bool:
    """Whether Ray runs already, with settings of its own; found out without importing Ray, which must see the settings."""
    ray = sys.modules.get("ray")
    return bool(os.environ.get("RAY_ADDRESS")) or (ray is not None and ray.is_initialized())


@contextmanager
def ray_cluster() -> Iterator[bool]:
    """The Ray that this process is connected to, else the one at RAY_ADDRESS, else one that is started; whether it was started."""
    address = os.environ.get("RAY_ADDRESS")
    _require_guard(address)
    with _loopback_named(address):
        import ray

    if ray.is_initialized():
        yield False
        return
    if address:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    else:
        private_token()
        with _private_files():
            ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    try:
        yield not address
    finally:
        ray.shutdown()


def _require_guard(address: str | None) -> None:
    """Whoever reaches a port of Ray runs code as its user, unless Ray asks for a token."""
    (setting, loopback), *_ = LOOPBACK_ONLY.items()
    reached = not is_loopback(address) if address else os.environ.get(setting, loopback) != loopback
    if reached and not authenticated() and os.environ.get(OPEN_RAY) != "1":
        raise SegueError(
            f"{AUTH_MODE}: expected a token where other machines reach Ray, found {os.environ[AUTH_MODE]}: anybody on the network "
            f"could run code as this user. Unset {AUTH_MODE}, or say {OPEN_RAY}=1"
        )


@contextmanager
def _loopback_named(address: str | None) -> Iterator[None]:
    """Where Ray is imported: it then leaves a loopback address as it is, for which it would take another one of this machine."""
    with _set({name: os.environ.get(name, value) for name, value in LOOPBACK_ONLY.items() if address is None or is_loopback(address)}):
        yield


@contextmanager
def _private_files() -> Iterator[None]:
    """What Ray's processes write, their sockets as well, is their owner's alone; they inherit this when they start."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def running_ray() -> Iterator[None]:
    """A Ray that already runs: the one this process is connected to, else the one at RAY_ADDRESS, else the one of this machine."""
    address = os.environ.get("RAY_ADDRESS")
    with _loopback_named(address):
        import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=address or "auto", log_to_driver=False, logging_level=logging.WARNING)
    except ConnectionError as error:
        raise SegueError(f"deploy: expected a running Ray, found {last_line(error)} Start one: segue serve ARTIFACT") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def ray_serve(port: int, started_ray: bool) -> Iterator[Any]:
    """Serve as it runs in the cluster, else one that is started, whose HTTP server listens on the loopback interface only."""
    serve = quiet_serve()
    if _serve_runs():
        yield serve
        return
    for setting, usual in SERVE_PORTS.items():
        require_free(int(os.environ.get(setting, usual)), setting)
    serve.start(http_options={"host": LOOPBACK, "port": port})
    try:
        yield serve
    finally:
        if not started_ray:  # else it stops with Ray
            serve.shutdown()


def quiet_serve() -> Any:
    """The module ray.serve, which logs warnings only: the command line prints what matters."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    return serve


def _serve_runs() -> bool:
    import ray

    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return False
    return True


def ray_address() -> str:
    """What RAY_ADDRESS has to be to connect to the Ray of this process."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def described() -> Iterator[str]:
    """What `segue serve` says beside the address: who is served, where the metrics are, and what is not guarded."""
    keys = len(keys_from_environment())
    yield f"API keys: {keys or 'none, so that everybody who reaches the port is served'}"
    yield f"Metrics for Prometheus: {' and '.join(_metrics_urls())}"
    if not authenticated():
        yield f"{AUTH_MODE}={os.environ[AUTH_MODE]}: everybody who reaches a port of Ray runs code as this user"


def _metrics_urls() -> list[str]:
    """Of Ray and of HAProxy on this node; every node has them."""
    import ray

    node: Mapping[str, Any] = ray.nodes()[0]  # type: ignore[no-untyped-call]
    setting = "RAY_SERVE_HAPROXY_METRICS_PORT"
    haproxy = f"{LOOPBACK}:{os.environ.get(setting, SERVE_PORTS[setting])}"
    return [f"http://{address}/metrics" for address in (f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}", haproxy)]
