"""Progress of long work: the type of the callback, and one that shows nothing.

Whoever works (ingest, a fit, an evaluation) calls it; whoever started the work decides how it is shown. Knows no terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

NO_FIGURES: Mapping[str, float] = MappingProxyType({})


class Progress(Protocol):
    """Called with the phase's name, the share of it that is done (0 to 1), and figures such as a loss where there are any."""

    def __call__(self, phase: str, done: float, figures: Mapping[str, float] = ..., /) -> None: ...


def silent(phase: str, done: float, figures: Mapping[str, float] = NO_FIGURES, /) -> None:
    """A Progress that shows nothing."""


def under(report: Progress, prefix: str) -> Progress:
    """Reports with `prefix` before the name of each phase; it may be empty."""
    return lambda phase, done, figures=NO_FIGURES: report(f"{prefix} {phase}".strip(), done, figures)


def named(report: Progress, source: str) -> Progress:
    """Reports every phase under the name of one source, for two sources may be of one kind."""
    return lambda _, done, figures=NO_FIGURES: report(source, done, figures)
