"""Slow, obvious twins of what the program computes with arrays: plain Python over lists and sets, one query at a time.

Each is written from the formula (DESIGN.md; Zamani et al. 2019), not from the code it checks.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

NAN = float("nan")


def recall(ranked: Sequence[object], relevant: AbstractSet[object], k: int) -> float:
    return sum(track in relevant for track in ranked[:k]) / len(relevant) if relevant else NAN


def ndcg(ranked: Sequence[object], relevant: AbstractSet[object], k: int) -> float:
    if not relevant:
        return NAN
    gained = sum(1 / math.log2(rank + 1) for rank, track in enumerate(ranked[:k], start=1) if track in relevant)
    return gained / sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))


def r_precision(ranked: Sequence[object], relevant: AbstractSet[object]) -> float:
    return recall(ranked, relevant, len(relevant))


def clicks(ranked: Sequence[object], relevant: AbstractSet[object]) -> float:
    if not relevant:
        return NAN
    for rank, track in enumerate(ranked[:500], start=1):
        if track in relevant:
            return math.floor((rank - 1) / 10)
    return 51


def average_precision(ranked: Sequence[object], relevant: AbstractSet[object], k: int) -> float:
    if not relevant:
        return NAN
    found, total = 0, 0.0
    for rank, track in enumerate(ranked[:k], start=1):
        if track in relevant:
            found += 1
            total += found / rank
    return total / min(k, len(relevant))


def coverage(lists: Sequence[Sequence[object]], num_tracks: int, k: int) -> float:
    return len({track for ranked in lists for track in ranked[:k]}) / num_tracks


def personalization(lists: Sequence[Sequence[object]], k: int) -> float:
    sets = [set(ranked[:k]) for ranked in lists if ranked[:k]]
    pairs = [(one, other) for i, one in enumerate(sets) for other in sets[:i]]
    if not pairs:
        return NAN
    return 1 - sum(len(one & other) / math.sqrt(len(one) * len(other)) for one, other in pairs) / len(pairs)


def read_submission(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The team line and the tracks by playlist, read with the csv module and not with the writer's own rules."""
    with path.open(encoding="utf-8", newline="") as file:
        first, *rows = csv.reader(file)
    return first, {row[0]: row[1:] for row in rows}
