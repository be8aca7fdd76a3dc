"""What a request costs, in ordinary ones, before it is taken.

Input: a query and how it is to be ranked, or how much is to be scanned. Output: about how many ordinary requests (10 seeds, an
answer of 10 tracks) take as long. The coefficients are measured (`segue bench cost`), on one model and machine; what they are
for, who waits for whom, bears a factor of two. Knows no queue.
"""

from __future__ import annotations

from engine.answer.ranking import RankOptions
from features.domain import Query

LARGE = 3.0
"""What costs more waits in a queue of its own, and is computed by threads of its own, so that no ordinary request waits for it."""


def of_query(query: Query, options: RankOptions, candidates: int) -> float:
    """`candidates`: how many tracks will be ranked."""
    explained = options.length if options.explain else 0
    return 0.5 + 5e-4 * candidates + 5e-6 * candidates * len(query.seeds) + 2e-3 * explained + 1e-3 * options.length


def of_scan(numbers: int) -> float:
    """Of every number that is known of the tracks, or of so many characters."""
    return numbers / 1e7
