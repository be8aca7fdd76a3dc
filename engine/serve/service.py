"""The running service: start it, stop it, and replace its model.

Input: an artifact and a port; for `deploy` an artifact and a service that runs. Output: a service that answers on the loopback
interface; or the outcome of the change of models. Independent of training.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.artifact import open_artifact
from engine.local_ray import LOOPBACK
from engine.serve import cluster
from engine.serve.api_keys import keys_from_environment
from engine.serve.app import ServeArgs, Topology, build_app
from engine.serve.ending import Ending
from engine.serve.family import Family, reaped
from engine.serve.placement import RELEASE
from engine.serve.ports import require_free
from engine.serve.protocols import last_line
from engine.serve.rollout import ModelChange
from engine.serve.watchdog import PROXY, Watchdog, asks
from features.domain import SegueError

if TYPE_CHECKING:
    from ray.serve import Application

APP = "segue"
DEPLOY_TIMEOUT_S = 1_800.0


def _say_nothing(line: str) -> None:
    pass


def serve_forever(artifact: Path, topology: Topology, port: int, replicas: int | None = None, say: Callable[[str], None] = print) -> int:
    """Serves until SIGINT or SIGTERM, and then stops what it started, within END_S; the exit code.

    0 after a signal; 1 where the service is dead and a supervisor should start it anew.
    """
    ending = Ending(say)
    with reaped(), ending.signals(), running_service(artifact, topology, port, say=say, replicas=replicas) as url:
        say(f"Serving {artifact} ({topology}) on {url}, documented at {url}/docs")
        say(f"It is {open_artifact(artifact, verify='size').manifest.identity()}. Try:")
        say(f'  curl -s {url}/v1/recommend -H \'content-type: application/json\' -d \'{{"title": "road trip", "k": 5}}\'')
        for line in cluster.described():
            say(line)
        say(f"Replace the model with: RAY_ADDRESS={cluster.ray_address()} segue deploy ARTIFACT")
        family = Family(os.getpid())
        watchdog = Watchdog(family, asks(f"{url}/healthz"), ending.give_up, say)
        threading.Thread(target=watchdog.run, name="watchdog", daemon=True).start()
        ending.wait()
        watchdog.stop()
        say("Stopping")
        _close_the_door(family)
    return 0


def _close_the_door(family: Family) -> None:
    """HAProxy takes no further connection and ends the ones it has after their request: none finds a service half gone."""
    for process in family.look():
        if process.name == PROXY:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGUSR1)


@contextmanager
def running_service(
    artifact: Path, topology: Topology = "composed", port: int = 8000, *, say: Callable[[str], None] = _say_nothing, **args: Any
) -> Iterator[str]:
    """The base URL of a service that answers; at the end of the block, what was started is stopped. `args`: other ServeArgs.

    Runs on the Ray of this process, else on the one at RAY_ADDRESS, else starts one.
    """
    open_artifact(artifact, verify="size")  # a wrong path is an error before Ray takes its seconds
    require_free(port)
    keys_from_environment()  # so is a mistake in the keys
    with cluster.environment(say), cluster.ray_cluster() as started_ray, cluster.ray_serve(port, started_ray) as serve:
        _run(serve, build_app(ServeArgs(artifact=artifact, topology=topology, **args)))
        try:
            yield f"http://{LOOPBACK}:{port}"
        finally:
            serve.delete(APP)  # lets requests under way end


def _run(serve: Any, application: Application) -> None:
    try:
        serve.run(application, name=APP, route_prefix="/")
    except RuntimeError as error:  # Serve's only error for a replica that does not start
        raise SegueError(f"serve: expected every replica to start, found: {error} See /tmp/ray/session_latest/logs/serve") from error


def deploy(artifact: Path, app: str = APP) -> ModelChange:
    """Replaces the model of the service on the Ray at RAY_ADDRESS, else of this machine, by `artifact`, without a gap.

    A model that is damaged, or that a replica cannot open, is a SegueError, and the old one is still served.
    """
    open_artifact(artifact, verify="size")  # a wrong path is an error before Ray takes its seconds
    with cluster.running_ray():
        try:
            change = _deploy(cluster.quiet_serve().get_deployment_handle(RELEASE, app), artifact)
            return asyncio.run_coroutine_threadsafe(change, _handle_loop()).result()
        except TimeoutError as error:
            raise SegueError(f"deploy: expected the change to be through within {DEPLOY_TIMEOUT_S:.0f} s, found it under way") from error
        except Exception as error:  # of whatever type Serve makes of the rollout's error
            raise SegueError(f"deploy: {last_line(error)}") from error


async def _deploy(release: Any, artifact: Path) -> ModelChange:
    change: ModelChange = await asyncio.wait_for(release.deploy.remote(str(artifact.resolve())), DEPLOY_TIMEOUT_S)
    return change


@cache
def _handle_loop() -> asyncio.AbstractEventLoop:
    """With RAY_SERVE_THROUGHPUT_OPTIMIZED a handle must be used in one and the same event loop for the life of the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="serve-handles", daemon=True).start()
    return loop
