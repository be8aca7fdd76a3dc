"""Ray and Ray Serve: the settings they need, and how they are found, started and stopped.

Input: the environment (RAY_ADDRESS and the settings of Serve). Output: a Ray and a Serve that run for the length of a `with` block.
Whatever ran before is left running. Importing this module starts nothing. Independent of models.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from engine.serve.ports import HAPROXY_PORTS, LOOPBACK, moved_ports, require_free
from engine.serve.protocols import last_line
from features.domain import SegueError

ENVIRONMENT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A replica that stops waits so long for HAProxy to notice; the default of 30 is for load balancers in front of HAProxy.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    # When a gateway dies, HAProxy sends its requests to the next one: no request changes anything, so that each may be sent twice.
    # HAProxy can do so only for a request that it has read whole before it passed it on. That takes an option for which Serve has
    # no setting, but Serve writes this setting into HAProxy's configuration as it is, line breaks included.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response response-timeout\n    option http-buffer-request",
    "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "8",  # longer than any answer takes: see ServeArgs.deadline_s
    "RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S": "1",
    "RAY_SERVE_HAPROXY_RETRIES": "5",
    # Fine buckets of the latency histogram where the latencies of this service are.
    "RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS": "1,2,5,10,15,20,30,40,60,80,100,150,200,300,500,1000,2000,5000",
}
"""Settings of Ray and Serve. They must be in the environment of every node before Ray starts: Serve reads them when it is imported."""


def environment() -> dict[str, str]:
    """ENVIRONMENT, and ports that are free where the usual ones are taken; what the caller's environment sets has precedence."""
    settings = {name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()}
    return settings if _has_ray() else {**settings, **moved_ports(os.environ)}


def _has_ray() -> bool:
    """Whether Ray runs already, with settings of its own; found out without importing Ray, which must see the settings."""
    ray = sys.modules.get("ray")
    return bool(os.environ.get("RAY_ADDRESS")) or (ray is not None and ray.is_initialized())


@contextmanager
def ray_cluster() -> Iterator[bool]:
    """The Ray that this process is connected to, else the one at RAY_ADDRESS, else one that is started; whether it was started."""
    import ray

    if ray.is_initialized():
        yield False
        return
    address = os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    else:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    try:
        yield not address
    finally:
        ray.shutdown()


@contextmanager
def running_ray() -> Iterator[None]:
    """A Ray that already runs: the one this process is connected to, else the one at RAY_ADDRESS, else the one of this machine."""
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False, logging_level=logging.WARNING)
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
    for setting, usual in HAPROXY_PORTS.items():
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


def metrics_url() -> str:
    """The page for Prometheus of this node; every node has one."""
    import ray

    node: Mapping[str, Any] = ray.nodes()[0]  # type: ignore[no-untyped-call]
    return f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
