"""Metrics for Prometheus, and log lines in Serve's log files.

Input: the measurements of a Telemetry, and log records of this program. Output: Ray's metrics, which every node exports for
Prometheus with application, deployment and replica as labels; and lines of JSON in Serve's own log files.
"""

from __future__ import annotations

import logging
import threading
import time

from ray.serve.metrics import Counter, Gauge, Histogram

from engine.serve.middleware import ACCESS_LOG

STAGE_BUCKETS_S = [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0]
REQUEST_BUCKETS_S = [0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0]
BATCH_BUCKETS = [1.0, 2, 4, 8, 16, 32, 64, 128, 256]
FLUSH_EVERY_S = 1.0
CANDIDATE_BUCKETS = [50.0, 100, 200, 300, 400, 500, 750, 1_000, 2_000, 4_000, 8_000]


class PrometheusTelemetry:
    """Writes every measurement as one of Ray's metrics; must be created in a replica, whose labels they get."""

    def __init__(self) -> None:
        self._requests = Counter("segue_requests", "HTTP requests.", ("route", "status"))  # type: ignore[arg-type]  # Ray annotates one tag
        self._request_s = Histogram("segue_request_seconds", "From a request's first byte to its answer.", REQUEST_BUCKETS_S, ("route",))
        self._batch = Histogram("segue_batch_size", "Queries in a batch.", BATCH_BUCKETS)
        self._stage_s = Histogram("segue_stage_seconds", "One batch in a source or in the ranker.", STAGE_BUCKETS_S, ("stage",))
        self._candidates = Histogram("segue_candidates", "Candidates ranked for one query.", CANDIDATE_BUCKETS)
        self._degraded = Counter("segue_degraded", "Batches without this stage.", ("stage",))
        self._model = Gauge("segue_model", "1 for the active model, 0 for those before it.", ("version",))
        self._version = ""

    def record_request(self, route: str, status: int, seconds: float) -> None:
        self._requests.inc(tags={"route": route, "status": str(status)})
        self._request_s.observe(seconds, {"route": route})

    def record_batch(self, size: int) -> None:
        self._batch.observe(size)

    def record_stage(self, name: str, seconds: float) -> None:
        self._stage_s.observe(seconds, {"stage": name})

    def record_candidates(self, count: int) -> None:
        self._candidates.observe(count)

    def record_degraded(self, name: str) -> None:
        self._degraded.inc(tags={"stage": name})

    def record_model(self, version: str) -> None:
        if self._version:
            self._model.set(0, {"version": self._version})
        self._version = version
        self._model.set(1, {"version": version})


def log_to_serve_files() -> None:
    """The log lines of this program go to the log file of the replica, as Serve's own lines do."""
    segue, serve = logging.getLogger("segue"), logging.getLogger("ray.serve")
    segue.handlers, segue.propagate = serve.handlers, False
    segue.setLevel(logging.INFO)
    logging.getLogger(ACCESS_LOG).setLevel(logging.INFO)
    threading.Thread(target=_flush, args=(segue,), name="log-flush", daemon=True).start()


def _flush(logger: logging.Logger) -> None:
    """Serve holds back a thousand lines; so a replica that is killed loses those of its last second alone."""
    while True:
        time.sleep(FLUSH_EVERY_S)
        for handler in logger.handlers:
            handler.flush()
