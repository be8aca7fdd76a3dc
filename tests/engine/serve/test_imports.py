"""What answers loads nothing that only training needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FROM_PYTHON = """
from engine import open_model
model = open_model(artifact)
(track,) = model.search("a", limit=1)
assert len(model.recommend([track], title="road trip", k=5)) == 5
assert model.similar(track)
"""
OVER_HTTP = """
import asyncio, httpx
from engine.serve.active_model import ActiveModel
from engine.serve.model_cache import check_artifact
from engine.serve.orchestrator import Limits
from engine.serve.routes import web_app

async def ask():
    active = ActiveModel.in_process(Limits(), threads=1)
    await active.activate(check_artifact(artifact))
    transport = httpx.ASGITransport(web_app(lambda: active.gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://segue") as client:
        answer = await client.post("/v1/recommend", json={"title": "road trip", "k": 5})
        assert len(answer.json()["tracks"]) == 5, answer.text
        assert answer.json()["degraded"] == []

asyncio.run(ask())
"""
REPLICAS = "import engine.serve.deployments"


def loaded(code: str, artifact: Path) -> list[str]:
    """The modules of a process that runs `code`."""
    report = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", f"artifact = {str(artifact)!r}\n{code}\n{report}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=True)
    return list(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize("code", [FROM_PYTHON, OVER_HTTP, REPLICAS], ids=["from Python", "over HTTP", "in a replica of Serve"])
def test_a_server_loads_nothing_that_only_training_needs(tiny_artifact: Path, code: str) -> None:
    modules = loaded(code, tiny_artifact)
    packages = {name.partition(".")[0] for name in modules}
    assert not packages & {"torch", "lightgbm"}  # LightGBM is loaded for the first explanation
    assert not {name for name in modules if name == "ray.train" or name.startswith("ray.train.")}
    assert not {name for name in modules if name.startswith(("engine.train", "engine.evaluate", "engine.cli"))}
    assert not {name for name in modules if name.startswith("stages.") and "training" in name.rpartition(".")[2]} - {"stages.training_data"}
    assert not {name for name in modules if name.startswith("stages.retrieve.training")}
    assert ("ray" in packages) is (code is REPLICAS)
