"""What is counted and timed while the service answers, and where it is written down.

Input: calls from the conductor and the web application. Output: whatever a Meter makes of them; at the rim that is Ray's
metrics, which Prometheus reads. Knows no Ray.
"""

from __future__ import annotations

from typing import Protocol


class Telemetry(Protocol):
    """Receives every measurement; must be quick and must not fail."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """One HTTP request, its waiting included."""

    def batch(self, size: int) -> None:
        """One batch of `size` queries sets out."""

    def stage(self, name: str, seconds: float) -> None:
        """A source, the ranker, or a whole call of a deployment took so long."""

    def candidates(self, count: int) -> None:
        """So many candidates of one query were ranked."""

    def degraded(self, name: str) -> None:
        """A stage was left out of one batch."""

    def model(self, version: str) -> None:
        """This version answers from now on."""


class NoTelemetry:
    """Writes nothing down."""

    def request(self, route: str, status: int, seconds: float) -> None:
        pass

    def batch(self, size: int) -> None:
        pass

    def stage(self, name: str, seconds: float) -> None:
        pass

    def candidates(self, count: int) -> None:
        pass

    def degraded(self, name: str) -> None:
        pass

    def model(self, version: str) -> None:
        pass
