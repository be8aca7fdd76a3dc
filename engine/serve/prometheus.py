"""What the service says of itself, where people who run Ray look for it: metrics for Prometheus, and log lines.

Input: the measurements of a Meter, and log records of this program. Output: Ray's metrics, which every node exports for
Prometheus with application, deployment and replica as labels; and lines in Serve's own log files, as JSON.
"""

from __future__ import annotations

import logging

from ray.serve.metrics import Counter, Gauge, Histogram

from engine.serve.middleware import ACCESS

STAGE_S = [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0]
REQUEST_S = [0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0]
BATCH = [1.0, 2, 4, 8, 16, 32, 64, 128, 256]
CANDIDATES = [50.0, 100, 200, 300, 400, 500, 750, 1_000, 2_000, 4_000, 8_000]


class PrometheusTelemetry:
    """Every measurement as one of Ray's metrics; to be made in a replica, whose labels it takes."""

    def __init__(self) -> None:
        self._requests = Counter("segue_requests", "HTTP requests.", ("route", "status"))  # type: ignore[arg-type]  # Ray annotates one tag
        self._request_s = Histogram("segue_request_seconds", "From a request's first byte to its answer.", REQUEST_S, ("route",))
        self._batch = Histogram("segue_batch_size", "Queries that travelled together.", BATCH)
        self._stage_s = Histogram("segue_stage_seconds", "One batch in a source, in the ranker.", STAGE_S, ("stage",))
        self._candidates = Histogram("segue_candidates", "Candidates ranked for one query.", CANDIDATES)
        self._degraded = Counter("segue_degraded", "Batches that a stage was left out of.", ("stage",))
        self._model = Gauge("segue_model", "1 for the model that answers, 0 for those that did before.", ("version",))
        self._version = ""

    def request(self, route: str, status: int, seconds: float) -> None:
        self._requests.inc(tags={"route": route, "status": str(status)})
        self._request_s.observe(seconds, {"route": route})

    def batch(self, size: int) -> None:
        self._batch.observe(size)

    def stage(self, name: str, seconds: float) -> None:
        self._stage_s.observe(seconds, {"stage": name})

    def candidates(self, count: int) -> None:
        self._candidates.observe(count)

    def degraded(self, name: str) -> None:
        self._degraded.inc(tags={"stage": name})

    def model(self, version: str) -> None:
        if self._version:
            self._model.set(0, {"version": self._version})
        self._version = version
        self._model.set(1, {"version": version})


def log_as_serve_does() -> None:
    """This program's log lines go to the files of the replica that writes them, as Serve's own do."""
    ours, serves = logging.getLogger("segue"), logging.getLogger("ray.serve")
    ours.handlers, ours.propagate = serves.handlers, False
    ours.setLevel(logging.INFO)
    logging.getLogger(ACCESS).setLevel(logging.INFO)
