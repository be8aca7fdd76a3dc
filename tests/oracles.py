"""Slow, obvious twins of what the program computes with arrays: plain Python over lists and sets, one query at a time.

Each is written from the formula (DESIGN.md; Zamani et al. 2019), not from the code it checks.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
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


def als_row(held: dict[int, float], columns: np.ndarray, confidence: float, weight: float, biases: np.ndarray | float = 0.0) -> np.ndarray:
    """(dim,) (Y'C Y + w I)^-1 Y'C (r - b) of Hu, Koren and Volinsky (2008), with every matrix written out; `held` has the plays."""
    num_columns, dim = columns.shape
    certainty, preference = np.eye(num_columns), np.zeros(num_columns)
    for track, plays in held.items():
        certainty[track, track] += confidence * plays
        preference[track] = 1
    y = columns.astype(np.float64)
    solved: np.ndarray = np.linalg.solve(y.T @ certainty @ y + weight * np.eye(dim), y.T @ certainty @ (preference - biases))
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


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    lengths = max(math.hypot(*one), 1e-9) * max(math.hypot(*other), 1e-9)
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths


@dataclass(frozen=True)
class PlainWorld:
    """What pair features are made of, as lists and sets; None is an artist or album that is not known."""

    playlists: Sequence[AbstractSet[int]]
    artists: Sequence[str | None]
    albums: Sequence[str | None]
    spaces: Mapping[str, Sequence[Sequence[float]]]

    def count(self, track: int) -> int:
        return sum(track in playlist for playlist in self.playlists)

    def entries(self, names: Sequence[str | None], track: int) -> int:
        """Entries of all tracks of the same artist or album."""
        return sum(self.count(other) for other, name in enumerate(names) if name is not None and name == names[track])


@dataclass(frozen=True)
class PlainQuery:
    """One query: what is asked, each answering source's proposals as track -> (rank, score), each space's query vector."""

    seeds: Sequence[int]
    title: str
    proposed: Mapping[str, Mapping[int, tuple[int, float]]]
    searched: Mapping[str, Sequence[float]]


def pair_features(world: PlainWorld, query: PlainQuery, track: int, sources: Sequence[str]) -> dict[str, float]:
    """Every feature of one (query, candidate) pair by its name."""
    found: dict[str, float] = {}
    for source in sources:
        rank, score = query.proposed.get(source, {}).get(track, (NAN, NAN))
        best = max((score for _, score in query.proposed.get(source, {}).values()), default=NAN)
        found |= {f"{source}.score": score, f"{source}.rank": rank, f"{source}.relative_score": score / max(abs(best), 1e-9)}
    for name, vectors in world.spaces.items():
        of_seeds = [cosine(vectors[track], vectors[seed]) for seed in query.seeds]
        searched = query.searched.get(name)
        found[f"{name}.inner_product"] = NAN if searched is None else sum(a * b for a, b in zip(vectors[track], searched, strict=True))
        found[f"{name}.cosine"] = NAN if searched is None else cosine(vectors[track], searched)
        found[f"{name}.seed_cosine_max"] = max(of_seeds, default=NAN)
        found[f"{name}.seed_cosine_mean"] = _mean(of_seeds)
        found[f"{name}.last_seeds_cosine"] = _mean(of_seeds[-5:])
    return found | _about_the_query(world, query) | _about_the_track(world, query, track) | _about_both(world, query, track)


def _about_the_query(world: PlainWorld, query: PlainQuery) -> dict[str, float]:
    known = [world.artists[seed] for seed in query.seeds if world.artists[seed] is not None]
    popularity = [math.log(1 + world.count(seed)) for seed in query.seeds]
    return {
        "query.seeds": len(query.seeds),
        "query.has_title": int(bool(query.title.strip())),
        "query.seed_artists": len(set(known)) if known else NAN,
        "query.top_artist_share": max(known.count(artist) for artist in known) / len(query.seeds) if known else NAN,
        "query.seed_popularity_mean": _mean(popularity),
        "query.seed_popularity_deviation": math.sqrt(_mean([(value - _mean(popularity)) ** 2 for value in popularity])),
    }


def _about_the_track(world: PlainWorld, query: PlainQuery, track: int) -> dict[str, float]:
    of_artist = world.entries(world.artists, track)
    popularity = math.log(1 + world.count(track))
    return {
        "track.popularity": popularity,
        "track.artist_popularity": math.log(1 + of_artist),
        "track.album_popularity": math.log(1 + world.entries(world.albums, track)),
        "track.share_of_artist": world.count(track) / of_artist if of_artist else NAN,
        "track.popularity_minus_seeds": popularity - _mean([math.log(1 + world.count(seed)) for seed in query.seeds]),
    }


def _about_both(world: PlainWorld, query: PlainQuery, track: int) -> dict[str, float]:
    by_artist, by_album = (
        [place for place, seed in enumerate(query.seeds) if names[track] is not None and names[seed] == names[track]]
        for names in (world.artists, world.albums)
    )
    held_by = {track: {i for i, playlist in enumerate(world.playlists) if track in playlist} for track in (track, *query.seeds)}
    shared = [len(held_by[track] & held_by[seed]) for seed in query.seeds]
    company = [
        both / math.sqrt(max(len(held_by[track]), 1) * max(len(held_by[seed]), 1)) for both, seed in zip(shared, query.seeds, strict=True)
    ]
    ranks = [of_source[track][0] for of_source in query.proposed.values() if track in of_source]
    return {
        "overlap.same_artist_seeds": len(by_artist),
        "overlap.same_artist_share": len(by_artist) / max(len(query.seeds), 1),
        "overlap.same_artist_from_end": len(query.seeds) - by_artist[-1] if by_artist else NAN,
        "overlap.same_album_seeds": len(by_album),
        "overlap.same_album_from_end": len(query.seeds) - by_album[-1] if by_album else NAN,
        "company.company_max": max(company, default=NAN),
        "company.company_mean": _mean(company),
        "company.company_last": _mean(company[-5:]),
        "company.company_seeds": _mean([both > 0 for both in shared]),
        "company.company_confidence": _mean(shared) / max(len(held_by[track]), 1),
        "union.proposed_by": len(ranks),
        "union.best_rank": min(ranks),
        "union.reciprocal_ranks": _reciprocal_ranks(query, track),
        "union.relative_reciprocal_ranks": _reciprocal_ranks(query, track)
        / max(_reciprocal_ranks(query, other) for of_source in query.proposed.values() for other in of_source),
    }


def _reciprocal_ranks(query: PlainQuery, track: int) -> float:
    return sum(1 / (60 + of_source[track][0]) for of_source in query.proposed.values() if track in of_source)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else NAN
