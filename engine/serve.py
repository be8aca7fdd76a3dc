"""Ray Serve: from an artifact to a running service.

Input: ServeArgs, from `serve_config.yaml` or the command line. Output: the application Serve deploys (`build_app`), or
a service that runs (`serve_forever`, `running_service`). The artifact is checked in full here, once, before any replica
opens it. `import engine.serve` starts nothing and reads no environment. Knows no stage and cannot train.
"""

# No `from __future__ import annotations`: Serve reads build_app's annotation as a class, to check the YAML's args.

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.artifact import open_artifact
from engine.conductor import Limits
from engine.model import source_names
from features.domain import SegueError

if TYPE_CHECKING:
    from ray.serve import Application

Topology = Literal["composed", "fused"]
APP = "segue"
LOOPBACK = "127.0.0.1"
ENVIRONMENT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A replica that leaves waits so long for HAProxy to notice; the default of 30 is for load balancers further out.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    # Straight lines of the latency histogram where this service's answers are.
    "RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS": "1,2,5,10,15,20,30,40,60,80,100,150,200,300,500,1000,2000,5000",
}
"""Must be in the environment of the whole cluster before Ray starts: Serve reads it when it is imported."""


class ServeArgs(BaseModel):
    """What `args:` in serve_config.yaml may say; an unknown key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    artifact: Path
    """The same path on every node."""
    topology: Topology = "composed"
    threads: int | None = Field(None, ge=1, le=64)
    """Threads of a replica that computes; else 1, or as many as there are cores, at most 8, where one replica does it all."""
    max_batch: int = Field(16, ge=1, le=256)
    in_flight: int = Field(2, ge=1, le=16)
    max_waiting: int = Field(128, ge=1, le=10_000)
    source_timeout_s: float = Field(1.0, gt=0, allow_inf_nan=False)
    ranker_timeout_s: float = Field(2.0, gt=0, allow_inf_nan=False)
    deadline_s: float = Field(5.0, gt=0, allow_inf_nan=False)

    def threads_each(self) -> int:
        return self.threads or (min(os.cpu_count() or 1, 8) if self.topology == "fused" else 1)

    def limits(self) -> Limits:
        return Limits(self.max_batch, self.in_flight, self.max_waiting, self.source_timeout_s, self.ranker_timeout_s, self.deadline_s)


def build_app(args: ServeArgs) -> "Application":
    """The application of one artifact; a damaged one is a SegueError before anything starts."""
    from engine.deployments import GATEWAY, RANKER, SOURCE

    artifact = open_artifact(args.artifact)
    path, version = str(artifact.path.resolve()), artifact.manifest.version
    threads, gateway = args.threads_each(), GATEWAY.options(name="gateway")
    if args.topology == "fused":
        return gateway.bind(path, version, args.limits(), threads)
    sources = {name: SOURCE.options(name=name).bind(path, version, name, threads) for name in source_names(artifact)}
    ranker = RANKER.options(name="ranker").bind(path, version, threads)
    return gateway.bind(path, version, args.limits(), threads, sources, ranker)


def serve_forever(artifact: Path, topology: Topology, port: int, say: Callable[[str], None] = print) -> None:
    """Serves until SIGINT or SIGTERM, and then stops what it started."""
    open_artifact(artifact, verify="size")  # a wrong path is said before anything else is
    stop = threading.Event()
    with _signals_set(stop):
        say("Ray Serve with " + " ".join(f"{name}={value}" for name, value in _environment().items()))
        with running_service(artifact, topology, port) as url, _signals_set(stop):  # again: Ray's own SIGTERM handler aborts
            say(f"Serving {artifact} ({topology}) on {url}, documented at {url}/docs. Try:")
            say(f'  curl -s {url}/v1/recommend -H \'content-type: application/json\' -d \'{{"title": "road trip", "k": 5}}\'')
            stop.wait()
            say("Stopping")


@contextmanager
def _signals_set(stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set `stop` within the block."""
    earlier = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


@contextmanager
def running_service(artifact: Path, topology: Topology = "composed", port: int = 8000) -> Iterator[str]:
    """The base URL of a service that answers; on leaving, what was started is stopped again.

    Connects to the Ray of this process, else to that of RAY_ADDRESS, else starts one.
    """
    open_artifact(artifact, verify="size")  # a wrong path is said before Ray takes its seconds
    _require_free(port)
    os.environ.update(_environment())
    with _ray() as ours, _serve(port, ours) as serve:
        _deploy(serve, build_app(ServeArgs(artifact=artifact, topology=topology)))
        try:
            yield f"http://{LOOPBACK}:{port}"
        finally:
            serve.delete(APP)  # lets requests under way end


def _deploy(serve: Any, application: "Application") -> None:
    try:
        serve.run(application, name=APP, route_prefix="/")
    except RuntimeError as error:  # all that Serve says of a replica that would not start
        raise SegueError(f"serve: expected every replica to start, found: {error} See /tmp/ray/session_latest/logs/serve") from error


def _environment() -> dict[str, str]:
    """ENVIRONMENT, where the caller's own does not say otherwise."""
    return {name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()}


@contextmanager
def _ray() -> Iterator[bool]:
    """The Ray that this process is connected to, else that of RAY_ADDRESS, else one of our own; whether it is our own."""
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
def _serve(port: int, in_our_ray: bool) -> Iterator[Any]:
    """Serve as it runs in the cluster, else one of our own, whose HTTP server listens on the loopback interface alone."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # the command line says what a person needs to know
    if _serve_runs():
        yield serve
        return
    serve.start(http_options={"host": LOOPBACK, "port": port})
    try:
        yield serve
    finally:
        if not in_our_ray:  # which ends with all that is in it
            serve.shutdown()  # type: ignore[no-untyped-call]


def _serve_runs() -> bool:
    import ray

    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return False
    return True


def _require_free(port: int) -> None:
    """HAProxy would share a port that is taken, and half of the requests would go astray."""
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise SegueError(f"--port: expected a free port, found {port} in use. Choose another with --port") from error
