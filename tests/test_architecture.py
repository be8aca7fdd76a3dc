"""The promises about who may import whom, which pyproject.toml lists, are kept, and a broken one would be seen."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("engine", "stages", "features")
NO_TORCH = "What serves needs neither torch nor the training side"
LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True, no_logo=True))"


def lint(checkout: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own, for the linter changes the import path and imports the packages it looks at."""
    return subprocess.run([sys.executable, "-c", LINT], cwd=checkout, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy whose promises a test may break."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_contracts_are_kept() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("features/domain.py", "import stages.protocols", "engine -> stages -> features, never back"),
        ("stages/protocols.py", "import engine.pipeline", "engine -> stages -> features, never back"),
        ("stages/retrieve/union.py", "import stages.rank.fusion", "The two stages never import each other"),
        ("features/domain.py", "import ray", "Ray is only at the rim"),
        ("stages/protocols.py", "from ray import train", "Ray is only at the rim"),
        ("engine/evaluate/metrics.py", "import ray", "Ray is only at the rim"),
        ("engine/serve/app.py", "import engine.train.launch", "A server cannot train"),
        ("engine/train/launch.py", "import engine.serve.app", "A trainer cannot serve"),
        ("engine/serve/app.py", "import torch", NO_TORCH),
        ("stages/retrieve/als/model.py", "import stages.retrieve.als.training", NO_TORCH),
        ("stages/retrieve/recipe.py", "import stages.retrieve.fitting", NO_TORCH),
        ("stages/retrieve/vectors.py", "import stages.parallel", NO_TORCH),
        ("stages/retrieve/index/recipe.py", "import stages.retrieve.index.selection", NO_TORCH),
        ("stages/resume.py", "import stages.training_data", "No import cycles"),
        ("stages/retrieve/index/protocol.py", "def later() -> None:\n    import stages.retrieve.index.exact", "No import cycles"),
        ("features/domain.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import features.dataset", "No import cycles"),
        ("engine/artifact.py", "import engine.model", "No import cycles"),
    ],
)
def test_a_broken_promise_is_seen(checkout: Path, module: str, line: str, broken: str) -> None:
    with (checkout / module).open("a") as file:
        file.write(f"\n{line}\n")
    result = lint(checkout)
    assert result.returncode != 0
    assert f"{broken} BROKEN" in result.stdout


def test_what_opens_a_model_does_without_torch_and_the_training_side() -> None:
    """Every process that serves would be larger by it."""
    code = "import sys, engine.model; raise SystemExit(bool({'torch', 'stages.parallel', 'stages.retrieve.fitting'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, check=False).returncode == 0
