"""How long work says how far it is: one kind of function to call, and the one that shows nothing.

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
