"""One real Ray on this machine for every test that needs one; whoever asks for it first starts it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.documents import Place

# Ray and Serve read these once, when they are imported; `segue serve` sets the same two of Serve.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"
os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = "1"

# The contracts say what they found, as a test file's own asserts do.
pytest.register_assert_rewrite("tests.contracts")

CPUS = 4
"""Logical ones: what runs at once is up to the tests, which run one after the other."""
OBJECT_STORE = 256 << 20


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[ModuleType]:
    """Ray, connected to a cluster of its own; whoever deploys or trains on it leaves it as it was."""
    import ray

    ray.init("local", num_cpus=CPUS, object_store_memory=OBJECT_STORE, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def readme_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A folder in which every command of the README that needs no service was run."""
    from tests.documents import README, Place, commands

    place = Place.of(tmp_path_factory.mktemp("readme"))
    for command in commands(README):
        if command.can_run:
            place.run(command)
    return place
