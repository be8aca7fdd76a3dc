"""Telemetry: what is counted and timed while the service answers.

Input: calls from the orchestrator, the middleware and the active model. Output: whatever an implementation does with them;
`engine.serve.prometheus` writes Ray's metrics, which Prometheus reads. Independent of Ray.
"""

from __future__ import annotations

from typing import Protocol


class Telemetry(Protocol):
    """Receives every measurement; must be quick and must not fail."""

    def record_request(self, route: str, status: int, seconds: float) -> None:
        """One HTTP request, with its time in the queue."""

    def record_batch(self, size: int) -> None:
        """One batch of `size` queries starts."""

    def record_stage(self, name: str, seconds: float) -> None:
        """One batch took so long in a source or in the ranker."""

    def record_candidates(self, count: int) -> None:
        """So many candidates of one query were ranked."""

    def record_degraded(self, name: str) -> None:
        """A stage was left out of one batch."""

    def record_model(self, version: str) -> None:
        """This model version is active from now on."""


class NoTelemetry:
    """Records nothing."""

    def record_request(self, route: str, status: int, seconds: float) -> None:
        pass

    def record_batch(self, size: int) -> None:
        pass

    def record_stage(self, name: str, seconds: float) -> None:
        pass

    def record_candidates(self, count: int) -> None:
        pass

    def record_degraded(self, name: str) -> None:
        pass

    def record_model(self, version: str) -> None:
        pass
