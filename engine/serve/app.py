"""Ray Serve: from an artifact to a running service.

Input: ServeArgs, from `serve_config.yaml` or the command line. Output: the application Serve deploys (`build_app`), or
a service that runs (`serve_forever`, `running_service`). The artifact is checked in full here, once, before any replica
opens it. `import engine.serve.app` starts nothing and reads no environment. Knows no stage and cannot train.
"""

# No `from __future__ import annotations`: Serve reads build_app's annotation as a class, to check the YAML's args.

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.artifact import open_artifact
from engine.model import RANKER
from engine.serve.local_stages import reason
from engine.serve.middleware import keys_of_environment
from engine.serve.orchestrator import Limits
from engine.serve.placement import GATEWAY, RELEASE, SHARED, heavy
from engine.serve.rollout import ModelChange
from features.domain import SegueError

if TYPE_CHECKING:
    from ray.serve import Application

Topology = Literal["composed", "fused"]
APP = "segue"
LOOPBACK = "127.0.0.1"
DEPLOYING_S = 1_800.0
"""A change of models is waited for so long."""
ENVIRONMENT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A replica that leaves waits so long for HAProxy to notice; the default of 30 is for load balancers further out.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    # A gateway that dies takes no request with it: HAProxy asks the next one, since all that is asked is read only. It can do so
    # only for a request it has read whole before it passed it on; for that it has an option, and Serve, which writes this setting
    # into HAProxy's configuration as it stands, has none.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response response-timeout\n    option http-buffer-request",
    "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "8",  # longer than any answer takes: see ServeArgs.deadline_s
    "RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S": "1",
    "RAY_SERVE_HAPROXY_RETRIES": "5",
    # Straight lines of the latency histogram where this service's answers are.
    "RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS": "1,2,5,10,15,20,30,40,60,80,100,150,200,300,500,1000,2000,5000",
}
"""Must be in the environment of the whole cluster before Ray starts: Serve reads it when it is imported."""


HAPROXY_PORTS = {"RAY_SERVE_HAPROXY_STATS_PORT": 8404, "RAY_SERVE_HAPROXY_METRICS_PORT": 9101}
"""Ports HAProxy takes besides the one it is asked for, on every interface, and the settings that move them."""


MOST_FUSED = 4
"""Replicas that hold everything, unless the caller says how many."""


class ServeArgs(BaseModel):
    """What `args:` in serve_config.yaml may say; an unknown key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    artifact: Path
    """The same path on every node."""
    topology: Topology = "composed"
    """composed: deployments that scale separately; fused: everything in each replica."""
    apart: tuple[str, ...] | None = None
    """composed: the sources with a deployment of their own; all others share one. null: those that search much (engine.serve.placement)."""
    replicas: int | None = Field(None, ge=1, le=64)
    """Of every deployment but `release`; `deployments:` in the YAML says it for one of them. null: 1; fused: one a core, at most 4."""
    threads: int | None = Field(None, ge=1, le=64)
    """Threads in which a replica runs its sources for a lone query; a batch uses one. null: 1; fused: 2."""
    max_batch: int | None = Field(None, ge=1, le=256)
    """Queries in a batch, at most. null: 8, since smaller batches leave no stage without work; fused: 16."""
    in_flight: int | None = Field(None, ge=1, le=16)
    """Batches under way at once, of each gateway replica. null: 3, one for sources, ranker and gateway each; fused: 1."""
    max_waiting: int = Field(128, ge=1, le=10_000)
    """Requests that may wait in each gateway replica; one more is answered 429."""
    source_timeout_s: float = Field(1.0, gt=0, allow_inf_nan=False)
    """A source that takes longer is left out of the answer, which names it in `degraded`."""
    ranker_timeout_s: float = Field(2.0, gt=0, allow_inf_nan=False)
    """If the ranker takes longer, the answer is in the order of rank fusion."""
    deadline_s: float = Field(5.0, gt=0, allow_inf_nan=False)
    """If a whole request takes longer, it is answered 504."""

    def replicas_each(self) -> int:
        return self.replicas or (min(os.cpu_count() or 1, MOST_FUSED) if self.topology == "fused" else 1)

    def threads_each(self) -> int:
        return self.threads or (2 if self.topology == "fused" else 1)

    def limits(self) -> Limits:
        batch, in_flight = (16, 1) if self.topology == "fused" else (8, 3)
        return Limits(
            self.max_batch or batch,
            self.in_flight or in_flight,
            self.max_waiting,
            self.source_timeout_s,
            self.ranker_timeout_s,
            self.deadline_s,
        )


def build_app(args: ServeArgs) -> "Application":
    """The application of one artifact; a damaged one is a SegueError before anything starts."""
    from engine.serve.deployments import GATEWAY_DEPLOYMENT, RANKER_DEPLOYMENT, RELEASE_DEPLOYMENT, SOURCES_DEPLOYMENT

    keys_of_environment()  # a file of keys that cannot be read is said here, not in every gateway
    artifact, limits = open_artifact(args.artifact), args.limits()
    replicas, threads = args.replicas_each(), args.threads_each()
    alone = heavy(artifact) if args.apart is None else args.apart
    stages = () if args.topology == "fused" else (*alone, SHARED, RANKER)
    release = RELEASE_DEPLOYMENT.options(name=RELEASE, user_config={"artifact": str(artifact.path.resolve())}).bind(stages)
    gateway = GATEWAY_DEPLOYMENT.options(name=GATEWAY, num_replicas=replicas)
    if args.topology == "fused":
        return gateway.bind(release, limits, threads)
    named = {name: SOURCES_DEPLOYMENT.options(name=name, num_replicas=replicas) for name in (*alone, SHARED)}
    sources = {name: deployment.bind(release, name, alone, threads) for name, deployment in named.items()}
    ranker = RANKER_DEPLOYMENT.options(name=RANKER, num_replicas=replicas).bind(release)
    return gateway.bind(release, limits, threads, sources, ranker)


def deploy(artifact: Path, app: str = APP) -> ModelChange:
    """The service on the Ray cluster at RAY_ADDRESS, else on the one of this machine, turns to `artifact` without a gap.

    A model that is damaged, or that any replica cannot open, is a SegueError, and the old one keeps serving.
    """
    open_artifact(artifact, verify="size")  # a wrong path is said before anything is asked
    with _cluster() as serve:
        try:
            asked = _changed(serve.get_deployment_handle(RELEASE, app), artifact)
            return asyncio.run_coroutine_threadsafe(asked, _handles_loop()).result()
        except TimeoutError as error:
            raise SegueError(f"deploy: expected the change to be through within {DEPLOYING_S:.0f} s, found it still under way") from error
        except Exception as error:  # of whatever kind Serve makes of what the release says
            raise SegueError(f"deploy: {reason(error)}") from error


async def _changed(release: Any, artifact: Path) -> ModelChange:
    changed: ModelChange = await asyncio.wait_for(release.deploy.remote(str(artifact.resolve())), DEPLOYING_S)
    return changed


@cache
def _handles_loop() -> asyncio.AbstractEventLoop:
    """Where Serve is set to be fast, a handle must be used in an event loop, the same one for as long as the process lives."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="serve-handles", daemon=True).start()
    return loop


@contextmanager
def _cluster() -> Iterator[Any]:
    """Serve on a Ray that already runs: this process's, that of RAY_ADDRESS, or this machine's."""
    import ray
    from ray import serve

    _hush()
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False, logging_level=logging.WARNING)
        except ConnectionError as error:
            raise SegueError(f"deploy: expected a running Ray, found {reason(error)} Start one: segue serve ARTIFACT") from error
    try:
        yield serve
    finally:
        if ours:
            ray.shutdown()


def serve_forever(artifact: Path, topology: Topology, port: int, replicas: int | None = None, say: Callable[[str], None] = print) -> None:
    """Serves until SIGINT or SIGTERM, and then stops what it started."""
    open_artifact(artifact, verify="size")  # a wrong path is said before anything else is
    stop = threading.Event()
    with _signals_set(stop):
        say("Ray Serve with " + " ".join(f"{name}={value}" for name, value in _environment().items()))
        with (
            running_service(artifact, topology, port, replicas=replicas) as url,
            _signals_set(stop),
        ):  # again: Ray's own SIGTERM handler aborts
            say(f"Serving {artifact} ({topology}) on {url}, documented at {url}/docs. Try:")
            say(f'  curl -s {url}/v1/recommend -H \'content-type: application/json\' -d \'{{"title": "road trip", "k": 5}}\'')
            say(f"Prometheus metrics: {_metrics_url()}. Another model takes over with: segue deploy ARTIFACT")
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
def running_service(artifact: Path, topology: Topology = "composed", port: int = 8000, **settings: Any) -> Iterator[str]:
    """The base URL of a service that answers; on leaving, what was started is stopped again. `settings`: other ServeArgs.

    Connects to the Ray of this process, else to that of RAY_ADDRESS, else starts one.
    """
    open_artifact(artifact, verify="size")  # a wrong path is said before Ray takes its seconds
    _require_free(port)
    os.environ.update(_environment())
    with _ray() as ours, _serve(port, ours) as serve:
        _run(serve, build_app(ServeArgs(artifact=artifact, topology=topology, **settings)))
        try:
            yield f"http://{LOOPBACK}:{port}"
        finally:
            serve.delete(APP)  # lets requests under way end


def _run(serve: Any, application: "Application") -> None:
    try:
        serve.run(application, name=APP, route_prefix="/")
    except RuntimeError as error:  # all that Serve says of a replica that would not start
        raise SegueError(f"serve: expected every replica to start, found: {error} See /tmp/ray/session_latest/logs/serve") from error


def _environment() -> dict[str, str]:
    """ENVIRONMENT, where the caller's own does not say otherwise."""
    return {name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()}


def _metrics_url() -> str:
    """Of this node; every node has such a page."""
    import ray

    node = ray.nodes()[0]  # type: ignore[no-untyped-call]
    return f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"


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

    _hush()
    if _serve_runs():
        yield serve
        return
    for name, usual in HAPROXY_PORTS.items():
        _require_free(int(os.environ.get(name, usual)), name)
    serve.start(http_options={"host": LOOPBACK, "port": port})
    try:
        yield serve
    finally:
        if not in_our_ray:  # which ends with all that is in it
            serve.shutdown()  # type: ignore[no-untyped-call]


def _hush() -> None:
    """The command line says what a person needs to know."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)


def _serve_runs() -> bool:
    import ray

    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return False
    return True


def _require_free(port: int, setting: str = "--port") -> None:
    """HAProxy would share a port that is taken, and half of the requests would go astray; or not start at all."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a service that has just stopped do not matter
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise SegueError(f"{setting}: expected a free port, found {port} in use. Choose another with {setting}") from error
