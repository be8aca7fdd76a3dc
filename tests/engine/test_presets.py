"""Every reference system by the ordinary commands: its preset trains, is saved, opened and asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.config import PRESETS, Config, SourcesConfig, presets, read_config
from engine.model import open_model
from engine.train.launch import train
from features.domain import NO_TRACK, SegueError
from tests import worlds
from tests.engine.conftest import TINY
from tests.engine.training import Heard

SMALL = {"dim": 8, "factors": 8, "epochs": 1, "iterations": 2, "negatives": 64, "background": 64, "tracks_per_epoch": 256, "batch_size": 64}
SYSTEMS = {
    "sessions": ("regular", "hybrid", "variational"),
    "factorization": ("artist", "album", "factorization", "three_factors"),
    "streaming": ("als",),
    "content": ("cosine", "contractive", "transformer"),
    "contractive": ("contractive",),
}


def shrunk(name: str) -> Config:
    """The preset, with models as small as a test's; three factors stay three."""
    config = read_config(Path(name))
    recipes: dict[str, Any] = dict(config.sources.recipes())
    for source, recipe in recipes.items():
        small = {field: min(most, getattr(recipe, field)) for field, most in SMALL.items() if hasattr(recipe, field)}
        recipes[source] = recipe.model_copy(update=small)
    sources = SourcesConfig.model_validate({**{source: one.model_dump() for source, one in recipes.items()}, "only": config.sources.only})
    tiny = {"candidates": TINY.candidates, "examples": TINY.examples, "ranker": TINY.ranker}
    return config.model_copy(update={"sources": sources, **tiny})


def test_there_is_one_for_each_reference_system() -> None:
    assert presets() == sorted(SYSTEMS)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_name_and_a_path_are_the_same(name: str) -> None:
    assert read_config(Path(name)) == read_config(PRESETS / f"{name}.yaml")


@pytest.mark.parametrize(("name", "sources"), SYSTEMS.items())
def test_it_trains_is_saved_and_answers(name: str, sources: tuple[str, ...], world: Path, tmp_path: Path) -> None:
    heard, config = Heard(), shrunk(name)
    train(world / "dataset", tmp_path / "artifact", config, workers=0, report=heard, threads=1)
    assert {*sources, *(f"masked 1 {source}" for source in sources)} <= set(heard.done)  # each under its own name
    model = open_model(tmp_path / "artifact")
    assert set(model.pipeline.sources) == {*sources, "popularity"}
    assert model.config.sources.recipes() == config.sources.recipes()  # nothing was left out, no ALS has grown
    asked = worlds.queries(worlds.query(0, 1, 2), worlds.query(3, 4))
    for source in sources:
        assert (model.pipeline.sources[source].retrieve(asked, 10).tracks != NO_TRACK).any() or source == "album"
    assert (model.pipeline.recommend(asked, 10).ranking.tracks != NO_TRACK).all()


def test_an_unknown_name_is_told_which_there_are() -> None:
    with pytest.raises(SegueError, match=r"expected a YAML file or a preset \(content, contractive, .*\), found session"):
        read_config(Path("session"))


def test_a_file_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sessions").write_text("seed: 5")
    assert read_config(Path("sessions")).seed == 5
