"""What the five reference systems reported (DESIGN.md), and whether the order of their figures repeats on ours.

Input: our figures, by figure and by what each is of. Output: every pair that stands the other way round. The data they were
measured on are not public any more, so that an order is all that can repeat. Knows no model and no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

Figures = Mapping[str, Mapping[str, float]]
"""By figure (MAP@10, say) and by what it is of (a model, a setting)."""

SESSIONS: Figures = {
    "MAP@10": {"popular": 0.0325, "regular": 0.3147, "hybrid": 0.2967, "variational": 0.3561},
    "coverage@10": {"popular": 0.0003, "regular": 0.0283, "hybrid": 0.0262, "variational": 0.0430},
    "personalization@10": {"popular": 0.0, "regular": 0.9626, "hybrid": 0.9588, "variational": 0.9713},
}
FACTORIZATION: Figures = {"accuracy": {"three factors": 0.15, "same artist": 0.08, "same album": 0.07}}
STREAMING: Figures = {"sweeps until ALS has converged": {"40 factors": 20}}
CONTENT: Figures = {
    "same genre": {"cosine": 0.83, "transformer": 0.76},
    "MRR": {"cosine": 0.90, "transformer": 0.90},
    "autoencoder's loss": {"train": 0.0009, "validation": 0.0012},
    "mean similarity": {"autoencoder": 0.9969},
}
CONTRACTIVE: Figures = {
    "loss in %, batch": {"4": 0.118, "10": 0.1380, "20": 0.1704},
    "loss in %, rate": {"1e-05": 1.0002, "0.0001": 0.1380, "0.001": 0.0962, "0.01": 0.0890, "0.1": 3.8302},
    "loss in %, hidden layers": {"1": 0.1380, "3": 0.2991, "5": 0.6816},
    "loss in %, units": {"4": 0.7060, "7": 0.5770, "10": 0.1380, "15": 0.0521, "18": 0.0270, "21": 0.0169},
    "loss in %, recommended": {"start": 0.1380, "batch 4, rate 0.001": 0.0567},
}


def turned(published: Figures, ours: Figures) -> dict[str, list[str]]:
    """Per published figure that has an order the pairs `a > b` of theirs of which ours is not so; what they found equal has none."""
    return {name: _pairs(theirs, ours.get(name, {})) for name, theirs in published.items() if len(set(theirs.values())) > 1}


def _pairs(theirs: Mapping[str, float], ours: Mapping[str, float]) -> list[str]:
    both = [of for of in theirs if of in ours]
    ordered = [(a, b) if theirs[a] > theirs[b] else (b, a) for a, b in combinations(both, 2) if theirs[a] != theirs[b]]
    return [f"{more} > {less}" for more, less in ordered if not ours[more] > ours[less]]
