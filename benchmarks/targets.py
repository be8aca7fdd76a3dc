"""What the service has promised, and whether a result keeps it.

Input: the `systems` of a result of `benchmarks/serving.py`. Output: every target with what was found, and the systems beside
each other. What was not measured is neither kept nor broken. Measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

ALONE, MANY = "1", "16"
"""Clients: where latency is promised, and where requests/s are."""
OURS = ("composed", "fused")
BASELINES = ("monolith", "noop")

Systems = Mapping[str, Mapping[str, Any]]
Figure = Callable[[Systems], float | None]


@dataclass(frozen=True)
class Target:
    name: str
    figure: Figure
    least: float | None = None
    most: float | None = None

    def judged(self, systems: Systems) -> dict[str, Any]:
        found = self.figure(systems)
        expected = f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"
        return {"target": self.name, "expected": expected, "found": found, "reached": None if found is None else self._holds(found)}

    def _holds(self, found: float) -> bool:
        return (self.least is None or found >= self.least) and (self.most is None or found <= self.most)


def p50(system: str, clients: str = ALONE) -> Figure:
    """Milliseconds."""
    return lambda systems: _at(systems, system, clients, lambda run: float(run["milliseconds"]["p50"]))


def per_second(system: str, clients: str = MANY) -> Figure:
    return lambda systems: _at(systems, system, clients, lambda run: float(run["requests_per_second"]))


def _at(systems: Systems, system: str, clients: str, figure: Callable[[Mapping[str, Any]], float]) -> float | None:
    run = systems.get(system, {}).get("clients", {}).get(clients)
    return figure(run) if run and run["milliseconds"] else None


def times(one: Figure, other: Figure) -> Figure:
    """How many times the other it is."""

    def ratio(systems: Systems) -> float | None:
        above, below = one(systems), other(systems)
        return None if above is None or not below else round(above / below, 3)

    return ratio


def total(name: str) -> Figure:
    """Over everything that was asked of this service."""

    def summed(systems: Systems) -> float | None:
        runs = [run for system in OURS for kind in ("clients", "rates") for run in systems.get(system, {}).get(kind, {}).values()]
        return float(sum(run[name] for run in runs)) if runs else None

    return summed


TARGETS = (
    Target("composed: p50 in ms, 1 client", p50("composed"), most=15),
    Target("composed: requests/s, 16 clients", per_second("composed"), least=180),
    Target("fused: requests/s, 16 clients", per_second("fused"), least=270),
    Target("composed / monolith: p50, 1 client", times(p50("composed"), p50("monolith")), most=1),
    Target("composed / monolith: requests/s, 16 clients", times(per_second("composed"), per_second("monolith")), least=1),
    Target("fused / monolith: requests/s, 16 clients", times(per_second("fused"), per_second("monolith")), least=1.5),
    Target("composed and fused: errors", total("errors"), most=0),
    Target("composed and fused: degraded answers", total("degraded"), most=0),
)


def judged(systems: Systems) -> list[dict[str, Any]]:
    return [target.judged(systems) for target in TARGETS]


def ratios(systems: Systems) -> dict[str, dict[str, float | None]]:
    """Each topology beside each baseline."""
    return {
        f"{ours} / {baseline}": {
            "p50, 1 client": times(p50(ours), p50(baseline))(systems),
            "requests/s, 16 clients": times(per_second(ours), per_second(baseline))(systems),
        }
        for ours in OURS
        for baseline in BASELINES
        if ours in systems and baseline in systems
    }
