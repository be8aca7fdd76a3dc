"""What a request costs, in ordinary ones, before it is taken.

Input: a query and how it is to be ranked, or how much is to be scanned. Output: about how many ordinary requests (10 seeds, an
answer of 10 tracks) take as long. The coefficients are CPU time, measured on one model and machine (172,738 tracks, 72 features, 500
trees); what they are for, who waits for whom, bears a factor of two. Knows no queue.
"""

from __future__ import annotations

from engine.answer.ranking import RankOptions
from features.domain import Query

LARGE = 2.0
"""What costs more waits in a queue of its own, and is computed by threads of its own, so that no ordinary request waits for it."""
FIXED = 0.9
"""HTTP, the calls of the stages and the searches of the sources, whatever is asked."""
CANDIDATE, PAIR = 1.8e-4, 1.1e-6
"""Uniting, looking at and scoring a candidate; looking at it beside a seed."""
TRACK = 1e-3
"""Of an answer: its names and its JSON."""
EXPLANATION, EXPLAINED = 0.4, 9e-3
"""Of any, and of each track."""
EXCLUDED = 7e-5
"""Each is searched past, and parsed."""
NUMBERS = 4e7
"""So many numbers or characters are scanned in the time of an ordinary request."""


def of_query(query: Query, options: RankOptions, candidates: int) -> float:
    """`candidates`: how many tracks will be ranked."""
    pairs = candidates * len(query.seeds)
    explained = EXPLANATION + EXPLAINED * options.length if options.explain else 0.0
    return FIXED + CANDIDATE * candidates + PAIR * pairs + TRACK * options.length + EXCLUDED * len(query.exclude) + explained


def of_scan(numbers: int) -> float:
    """Of so many numbers or characters of the tracks."""
    return numbers / NUMBERS
