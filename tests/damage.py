"""What may happen to a file on disk while nobody looks."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path


def cut_short(file: Path, draw: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: draw.randrange(file.stat().st_size)])


def emptied(file: Path, draw: random.Random) -> None:
    file.write_bytes(b"")


def removed(file: Path, draw: random.Random) -> None:
    file.unlink()


def with_a_bit_flipped(file: Path, draw: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def zeroed(file: Path, draw: random.Random) -> None:
    """As a power cut leaves a file whose name was on the disk before its content."""
    file.write_bytes(bytes(file.stat().st_size))


def grown(file: Path, draw: random.Random) -> None:
    file.write_bytes(file.read_bytes() + draw.randbytes(8))


DAMAGES: Mapping[str, Callable[[Path, random.Random], None]] = {
    damage.__name__: damage for damage in (cut_short, emptied, removed, with_a_bit_flipped, zeroed, grown)
}


def swapped(one: Path, other: Path) -> None:
    """Each file or folder under the other's name."""
    aside = one.with_name(f"{one.name} aside")
    shutil.move(one, aside)
    shutil.move(other, one)
    shutil.move(aside, other)
