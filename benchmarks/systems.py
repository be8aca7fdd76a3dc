"""What is measured: the service in its two topologies, and two baselines beside it; each is started, asked and stopped.

Input: an artifact, a dataset for the baseline that needs one, a port. Output: a base URL under which `/v1/recommend` answers.
Everything started is a descendant of this process. Knows no measurement.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.measure import with_checkout
from engine.artifact import open_artifact
from engine.local_ray import LOOPBACK
from engine.model import source_names
from engine.serve.service import running_service
from features.domain import SegueError

SYSTEMS: Mapping[str, str] = {
    "composed": "this service: gateway, sources and ranker each in a replica of its own; sources that search much in one each",
    "fused": "this service, everything in one replica, and a replica a core",
    "apart": "as composed, with a replica for every single source",
    "noop": "a Serve application of the composed shape that computes nothing and makes no batches",
    "monolith": "FastAPI in two uvicorn workers: ALS as the only source and a ranker, an afternoon's work",
}
MONOLITH, WORKERS = "benchmarks.monolith", 2
STARTS_WITHIN_S = 60
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Of each worker of the monolith: there are as many workers as cores."""


@dataclass(frozen=True)
class Given:
    """What can be started with."""

    artifact: Path
    dataset: Path | None
    port: int

    def missing(self, system: str) -> str | None:
        """What `system` would need besides."""
        if system != "monolith":
            return None
        if self.dataset is None:
            return "--dataset was not given"
        return None if find_spec("implicit") else "implicit is not installed; it is in the extra `bench`"


def started(system: str, given: Given) -> AbstractContextManager[str]:
    """The base URL of the system of that name while it runs; what is missing for it is a SegueError."""
    if reason := given.missing(system):
        raise SegueError(f"{system}: expected all that it needs, found that {reason}. See `segue bench serving --help`")
    if system == "noop":
        from benchmarks import noop

        return noop.running(given.port)
    if system == "monolith":
        return _monolith(given)
    apart = {"apart": source_names(open_artifact(given.artifact, verify="size"))} if system == "apart" else {}
    return running_service(given.artifact, "fused" if system == "fused" else "composed", given.port, **apart)


@contextmanager
def _monolith(given: Given) -> Iterator[str]:
    """Trained first, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        places = {"MONOLITH_DATASET": str(given.dataset), "MONOLITH_FOLDER": folder}
        environment = {**with_checkout(), **ONE_THREAD, **places}
        python = [sys.executable, "-P", "-m"]
        subprocess.run([*python, MONOLITH, str(given.dataset), folder], env=environment, check=True)
        options = ["--factory", "--host", LOOPBACK, "--port", str(given.port), "--workers", str(WORKERS), "--log-level", "warning"]
        with subprocess.Popen([*python, "uvicorn", f"{MONOLITH}:app", "--no-access-log", *options], env=environment) as server:
            try:
                url = f"http://{LOOPBACK}:{given.port}"
                _wait_for_workers(url, server)
                yield url
            finally:
                server.terminate()


def _wait_for_workers(url: str, server: subprocess.Popen[bytes]) -> None:
    """One that still reads its model would leave the others' cores free."""
    seen: set[int] = set()
    until = time.monotonic() + STARTS_WITHIN_S
    while len(seen) < WORKERS:
        if server.poll() is not None or time.monotonic() > until:
            raise SegueError(f"monolith: expected {WORKERS} workers within {STARTS_WITHIN_S} s, found {len(seen)}. See what it said above")
        try:
            with urllib.request.urlopen(f"{url}/worker", timeout=5) as answer:
                seen.add(json.load(answer))
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
