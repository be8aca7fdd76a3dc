"""On which addresses processes listen for TCP connections, as Linux tells it."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from benchmarks import processes

LISTENS = "0A"


def below(pid: int) -> list[int]:
    """The process and all its descendants."""
    return [pid, *(process.pid for process in processes.descendants(processes.running(), pid))]


def addresses(pids: Iterable[int]) -> set[tuple[IPv4Address | IPv6Address, int]]:
    """Address and port of every listening socket that one of the processes has open."""
    inodes = {inode for pid in pids for inode in _sockets(pid)}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS and fields[9] in inodes:
                host, port = fields[1].split(":")
                found.add((_address(host), int(port, 16)))
    return found


def _address(hexadecimal: str) -> IPv4Address | IPv6Address:
    """The kernel prints words of 32 bits in the order of this machine's bytes."""
    words = [int(hexadecimal[start : start + 8], 16) for start in range(0, len(hexadecimal), 8)]
    address = ip_address(socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, struct.pack(f"={len(words)}I", *words)))
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _sockets(pid: int) -> list[str]:
    """Inodes of the sockets that the process has open; none of a process that has ended."""
    try:
        links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []
    return [link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")]
