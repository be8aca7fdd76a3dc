"""What starting the service checks before anything starts."""

from __future__ import annotations

import inspect
import socket
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from engine.serve.app import ServeArgs, build_app
from engine.serve.service import running_service
from features.domain import SegueError

CONFIG = Path(__file__).parents[3] / "serve_config.yaml"


def test_the_configuration_file_is_what_the_builder_takes() -> None:
    (application,) = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["applications"]
    assert application["import_path"] == "engine.serve:build_app"
    assert ServeArgs.model_validate(application["args"]).topology == "composed"


def test_serve_sees_the_builders_model_and_so_checks_the_arguments() -> None:
    """With postponed annotations Serve would find a string, and hand over whatever the YAML says."""
    (parameter,) = inspect.signature(build_app).parameters.values()
    assert issubclass(parameter.annotation, BaseModel)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        ServeArgs.model_validate({"artifact": "a", "colour": 3})
    with pytest.raises(ValidationError, match="topology"):
        ServeArgs.model_validate({"artifact": "a", "topology": "other"})


def test_a_damaged_or_missing_artifact_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match="nowhere"):
        build_app(ServeArgs(artifact=tmp_path / "nowhere"))
    with pytest.raises(SegueError, match="nowhere"), running_service(tmp_path / "nowhere", port=8199):
        pass


def test_a_taken_port_is_said_and_not_shared(tiny_artifact: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SegueError, match=f"expected a free port, found {port} in use"), running_service(tiny_artifact, port=port):
            pass
