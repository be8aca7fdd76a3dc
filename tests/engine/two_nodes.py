"""`segue` on a Ray cluster of two nodes with a CPU each: `python -m tests.engine.two_nodes train …`.

Two Rays in one process confuse each other, so it is a process of its own, and stops what it started by its own ids. Its last
line says on how many nodes each group of workers was.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import ray
from ray.cluster_utils import Cluster

from engine.__main__ import app

NODE = {"num_cpus": 1, "object_store_memory": 128 << 20, "include_dashboard": False}


def nodes_of_groups() -> list[int]:
    """On how many nodes each group of workers was; the one who owns a group is its controller."""
    groups: dict[int, set[str]] = defaultdict(set)
    for actor in ray._private.state.actors().values():
        if "TrainWorker" in actor["ActorClassName"]:
            groups[actor["OwnerAddress"]["Port"]].add(actor["Address"]["NodeID"])
    return [len(nodes) for nodes in groups.values()]


if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        cluster.add_node(**NODE)
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
        app(sys.argv[1:], standalone_mode=False)
        print("nodes of each group:", *nodes_of_groups())
    finally:
        ray.shutdown()
        cluster.shutdown()
