"""The Ray that a training runs on: the one this process is connected to, that of RAY_ADDRESS, or one started here.

Input: how many workers of how many CPUs and GPUs. Output: the threads of each worker, while a Ray is there with room for them.
A Ray that is started here is reachable from this machine alone. Only LightGBM's learner listens on every interface while more
than one worker grows trees: its address is fixed in its source. Knows no training.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from engine.local_ray import LOOPBACK, LOOPBACK_ONLY, private_token
from features.domain import SegueError
from features.processes import cores

OBJECT_STORE = 512 << 20
"""Bytes; the workers pass nothing large through Ray."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TRAIN_METRICS_ENABLED": "0", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
"""Nothing is sent home, no metrics are served, and the end of a group is seen at once."""
_LO = "lo" if sys.platform == "linux" else "lo0"
TORCH_ON_LOOPBACK = {"GLOO_SOCKET_IFNAME": _LO, "NCCL_SOCKET_IFNAME": _LO}


@contextmanager
def cluster(workers: int, threads: int | None, gpus: int) -> Iterator[int]:
    """Yields the threads of each worker: `threads`, or as many as there is room for. Ray reads its environment when it is imported,
    so it is imported here."""
    os.environ.update(QUIET)
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        os.environ.update(LOOPBACK_ONLY | TORCH_ON_LOOPBACK)
    import ray

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    connected = ray.is_initialized()
    try:
        if not connected:
            _connect(address, max(cores(), workers * (threads or 1)))
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        yield _threads_each(nodes, workers, threads, gpus)
    finally:
        if not connected:
            ray.shutdown()


def _connect(address: str | None, cpus: int) -> None:
    import ray

    if not address:
        private_token()
        ray.init(
            "local",
            num_cpus=cpus,
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _node_ip_address=LOOPBACK,
        )
        return
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise SegueError(f"RAY_ADDRESS: expected a running cluster at {address}, found none. Start it, or unset RAY_ADDRESS") from error


def _threads_each(nodes: Sequence[dict[str, float]], workers: int, threads: int | None, gpus: int) -> int:
    """The most threads, or exactly `threads`, with which all workers fit on the nodes; too little room is a SegueError."""
    most = threads or int(max(node.get("CPU", 0) for node in nodes))
    least = threads or 1
    share = next((cpus for cpus in range(most, least - 1, -1) if room(nodes, cpus, gpus) >= workers), None)
    if share is None:
        wanted = f"{workers} workers of {least} CPUs{f' and {gpus} GPUs' if gpus else ''} each"
        found = f"one of {len(nodes)} nodes with room for {room(nodes, least, gpus)}"
        raise SegueError(f"train: expected a cluster with room for {wanted}, found {found}. Use fewer workers, or add nodes first")
    return share


def room(nodes: Sequence[dict[str, float]], cpus: int, gpus: int) -> int:
    """How many workers of so many CPUs and GPUs fit on the nodes, each on one of them."""
    return sum(int(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) // gpus if gpus else float("inf"))) for node in nodes)
