"""The port on which the replicas of Ray Serve call each other: on the address of their node alone.

Ray 2.60 binds it to every interface and has no setting for that, so the function that binds it is replaced in this process. Who
calls takes the node's address anyway. Input: nothing. Output: nothing; a Ray in which that function has another name is an
AttributeError, and no replica starts.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.serve._private import replica

EVERY_INTERFACE = "[::]:"


def bind_to_node() -> None:
    """For every replica that this process starts from now on."""
    serves_own: Any = replica
    bind = serves_own.add_port_to_grpc_server

    def on_node(server: Any, address: str) -> int:
        node = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        host = f"[{node}]" if ":" in node else node
        return int(bind(server, address.replace(EVERY_INTERFACE, f"{host}:")))

    serves_own.add_port_to_grpc_server = on_node
