"""Slow, obvious twins of what the program computes with arrays: plain Python over lists and sets, one query at a time.

Each is written from the formula (DESIGN.md; Zamani et al. 2019), not from the code it checks.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np

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


# --- stages ---


def best_first(scored: Iterable[tuple[int, float]], n: int) -> list[tuple[int, float]]:
    """The `n` best (track, score) pairs: best first, equal scores by track."""
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:n]


def nearest(vectors: np.ndarray, tracks: Iterable[int], wanted: np.ndarray, excluded: AbstractSet[int], n: int) -> list[tuple[int, float]]:
    """The `n` largest inner products with `wanted` (dim,), one track after the other."""
    return best_first(((track, float(vectors[track].astype(np.float32) @ wanted)) for track in tracks if track not in excluded), n)


def als_weight(count: int, num_columns: int, confidence: float, regularization: float, exponent: float) -> float:
    """w of Rendle et al. (2021) in the scale of Hu et al.'s confidences: a * lambda * (n + columns / a)^nu."""
    return confidence * regularization * (count + num_columns / confidence) ** exponent


def als_row(held: dict[int, float], columns: np.ndarray, confidence: float, weight: float) -> np.ndarray:
    """(dim,) (Y'C Y + w I)^-1 Y'C r of Hu, Koren and Volinsky (2008), with every matrix written out; `held` has the plays."""
    num_columns, dim = columns.shape
    certainty, preference = np.eye(num_columns), np.zeros(num_columns)
    for track, plays in held.items():
        certainty[track, track] += confidence * plays
        preference[track] = 1
    y = columns.astype(np.float64)
    solved: np.ndarray = np.linalg.solve(y.T @ certainty @ y + weight * np.eye(dim), y.T @ certainty @ preference)
    return solved


def als_loss(plays: np.ndarray, rows: np.ndarray, columns: np.ndarray, confidence: float) -> float:
    """Sum over every cell of c (r - x.y)^2; `plays` (rows, columns) is 0 where nothing is held. No regularisation."""
    total = 0.0
    for u, row in enumerate(plays):
        for i, count in enumerate(row):
            error = float(count > 0) - float(rows[u].astype(np.float64) @ columns[i].astype(np.float64))
            total += (1 + confidence * float(count)) * error**2
    return total


def neighbour_votes(playlists: Sequence[AbstractSet[int]], seeds: AbstractSet[int], neighbours: int, sharpness: float) -> dict[int, float]:
    """Of the playlists most similar to `seeds` (idf-weighted cosine, ties by playlist) each gives its tracks similarity^sharpness."""

    def idf(track: int) -> float:
        return math.log((len(playlists) + 1) / (sum(track in playlist for playlist in playlists) + 1))

    def length(tracks: AbstractSet[int]) -> float:
        return math.sqrt(sum(idf(track) ** 2 for track in tracks))

    similar = []
    for playlist, held in enumerate(playlists):
        shared = sum(idf(track) ** 2 for track in held & seeds)
        if shared > 0:
            similar.append((playlist, shared / length(held) / length(seeds)))
    votes: dict[int, float] = {}
    for playlist, similarity in best_first(similar, neighbours):
        for track in playlists[playlist] - seeds:
            votes[track] = votes.get(track, 0) + similarity**sharpness
    return votes
