"""One model replaces another: opened by every replica, then activated by every gateway, or by none."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.answer import api
from engine.artifact import Artifact, ArtifactWriter, Description, open_artifact
from engine.model import source_names
from engine.serve.active_model import ActiveModel
from engine.serve.local_stages import LocalRanker, LocalSources
from engine.serve.model_cache import ModelCache, ModelRef, WrongVersion, check_artifact
from engine.serve.orchestrator import Limits
from engine.serve.placement import GATEWAY, SHARED, large_sources, sources_by_deployment
from engine.serve.rollout import ModelChange, Rollout
from features.domain import SegueError


class Recorded:
    """All replicas of one deployment, in this process; every call is written down, and waits while `gate` is closed."""

    def __init__(self, cluster: Cluster, deployment: str, replicas: Sequence[Any]) -> None:
        self._cluster, self._deployment, self._replicas = cluster, deployment, replicas

    async def prepare(self, model: ModelRef) -> None:
        await self._record("prepare")
        await asyncio.gather(*(replica.prepare(model) for replica in self._replicas))

    async def activate(self, model: ModelRef) -> None:
        await self._record("activate")
        await asyncio.gather(*(replica.activate(model) for replica in self._replicas))

    async def active_models(self) -> list[ModelRef]:
        await self._record("active_models")
        return [replica.model for replica in self._replicas if replica.model is not None]

    async def _record(self, method: str) -> None:
        self._cluster.calls.append((self._deployment, method))
        if self._cluster.gate is not None:
            await self._cluster.gate.wait()


class Cluster:
    """Two replicas of everything in one process, called as a rollout calls them."""

    def __init__(self) -> None:
        self.sources = [LocalSources(SHARED, source_names, 1) for _ in range(2)]
        self.rankers = [LocalRanker() for _ in range(2)]
        self.gateways = [ActiveModel({SHARED: s}, r, Limits()) for s, r in zip(self.sources, self.rankers, strict=True)]
        self.calls: list[tuple[str, str]] = []
        self.gate: asyncio.Event | None = None

    def rollout(self, try_out: Callable[[Path], None] = lambda _: None) -> Rollout:
        stages = [Recorded(self, SHARED, self.sources), Recorded(self, "ranker", self.rankers)]
        return Rollout(stages, Recorded(self, GATEWAY, self.gateways), try_out)

    async def start(self, path: Path, try_out: Callable[[Path], None] = lambda _: None) -> Rollout:
        rollout = self.rollout(try_out)
        await rollout.start(str(path))
        for gateway in self.gateways:
            (served, *_) = await rollout.models()
            await gateway.activate(served)
        self.calls.clear()
        return rollout

    def versions(self) -> set[str]:
        return {active.gateway.version for active in self.gateways}


def version(path: Path) -> str:
    return open_artifact(path).manifest.version


def test_a_model_takes_over_everywhere_and_going_back_is_the_same(tiny_artifact: Path, other_artifact: Path) -> None:
    async def story() -> None:
        cluster = Cluster()
        rollout = await cluster.start(tiny_artifact)
        old, new = version(tiny_artifact), version(other_artifact)
        assert await rollout.deploy(str(other_artifact)) == ModelChange(new, old)
        assert cluster.versions() == {new}
        assert [call for call in cluster.calls if call[1] == "prepare"][-1] == (GATEWAY, "prepare")  # after all stages
        assert cluster.calls[-1] == (GATEWAY, "activate")
        assert await rollout.deploy(str(tiny_artifact)) == ModelChange(old, new)
        assert cluster.versions() == {old}
        answer = await cluster.gateways[0].gateway.recommend(api.Recommend(title="road trip"), "id")
        assert (answer.model.version, answer.degraded) == (old, [])

    asyncio.run(story())


def test_a_model_that_fails_its_trial_is_opened_by_no_replica(tiny_artifact: Path, other_artifact: Path) -> None:
    tried: list[Path] = []

    def refuse(artifact: Path) -> None:
        tried.append(artifact)
        raise SegueError(f"{artifact}: expected answers when it was tried, found SIGSEGV. Train again")

    async def story() -> None:
        cluster = Cluster()
        rollout = await cluster.start(tiny_artifact, refuse)
        with pytest.raises(SegueError, match="found SIGSEGV"):
            await rollout.deploy(str(other_artifact))
        assert (tried, cluster.calls, cluster.versions()) == ([other_artifact], [], {version(tiny_artifact)})
        await rollout.deploy(str(tiny_artifact))
        assert len(tried) == 1

    asyncio.run(story())


def test_what_is_served_already_is_not_opened_again(tiny_artifact: Path) -> None:
    async def story() -> None:
        cluster = Cluster()
        rollout = await cluster.start(tiny_artifact)
        changed = await rollout.deploy(str(tiny_artifact))
        assert changed.version == changed.previous
        assert cluster.calls == []

    asyncio.run(story())


def test_a_request_under_way_ends_with_the_model_it_began_with(tiny_artifact: Path, other_artifact: Path) -> None:
    async def story() -> None:
        cluster = Cluster()
        rollout = await cluster.start(tiny_artifact)
        asking = asyncio.create_task(cluster.gateways[0].gateway.recommend(api.Recommend(title="jazz", k=100), "id"))
        await asyncio.sleep(0)
        await rollout.deploy(str(other_artifact))
        answer = await asking
        assert (answer.model.version, answer.degraded) == (version(tiny_artifact), [])

    asyncio.run(story())


def damaged(artifact: Path, at: Path) -> Path:
    shutil.copytree(artifact, at)
    file = at / "sources" / "als" / "track_vectors.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    return at


@pytest.mark.parametrize("how", ["missing", "damaged", "one replica cannot open it", "it does not answer"])
def test_a_bad_model_is_refused_and_the_old_one_keeps_serving(
    tiny_artifact: Path, other_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    async def story() -> None:
        cluster = Cluster()
        rollout = await cluster.start(tiny_artifact)
        path = {"missing": tmp_path / "nowhere", "damaged": tmp_path / "damaged"}.get(how, other_artifact)
        if how == "damaged":
            damaged(other_artifact, path)
        if how == "one replica cannot open it":
            monkeypatch.setattr(cluster.rankers[1], "prepare", failing("out of memory"))
        if how == "it does not answer":
            monkeypatch.setattr(cluster.rankers[1], "rank", failing("no such feature"))
        with pytest.raises(SegueError):
            await rollout.deploy(str(path))
        assert cluster.versions() == {version(tiny_artifact)}
        assert [model.version for model in await rollout.models()] == [version(tiny_artifact)]
        await rollout.deploy_or_log(str(path))  # the same without anybody to tell
        monkeypatch.undo()
        assert (await rollout.deploy(str(other_artifact))).version == version(other_artifact)

    asyncio.run(story())


def failing(why: str) -> Callable[..., Coroutine[Any, Any, None]]:
    async def fail(*_: Any) -> None:
        raise SegueError(why)

    return fail


def test_one_change_at_a_time(tiny_artifact: Path, other_artifact: Path) -> None:
    async def story() -> None:
        cluster = Cluster()
        rollout = await cluster.start(tiny_artifact)
        cluster.gate = asyncio.Event()
        first = asyncio.create_task(rollout.deploy(str(other_artifact)))
        while not cluster.calls:
            await asyncio.sleep(0.01)
        assert [model.version for model in await rollout.models()] == [version(tiny_artifact), version(other_artifact)]
        with pytest.raises(SegueError, match="no other change of models under way"):
            await rollout.deploy(str(tiny_artifact))
        cluster.gate.set()
        assert (await first).version == version(other_artifact)

    asyncio.run(story())


def test_a_release_that_died_learns_from_the_gateways_what_is_served(tiny_artifact: Path, other_artifact: Path) -> None:
    async def story() -> None:
        cluster = Cluster()
        await (await cluster.start(tiny_artifact)).deploy(str(other_artifact))
        again = cluster.rollout()
        await again.start(str(tiny_artifact))
        assert [model.version for model in await again.models()] == [version(other_artifact)]

    asyncio.run(story())


def empty_artifact(path: Path, seed: int) -> Path:
    """Of a version of its own, by the seed."""
    with ArtifactWriter(path) as writer:
        (writer.folder / "seed.txt").write_text(str(seed))
        writer.describe(Description(seed=seed, config={}, vocabulary_hash="", num_tracks=0, feature_names=(), sources={}))
    return path


def test_versions_are_opened_once_and_two_are_kept(tmp_path: Path) -> None:
    opened: list[str] = []
    opening = threading.Event()

    def open_part(artifact: Artifact) -> str:
        opening.wait(5)
        opened.append(artifact.manifest.version)
        return artifact.path.name

    async def story() -> None:
        cache = ModelCache("part", open_part)
        a, b, c = (check_artifact(str(empty_artifact(tmp_path / name, seed))) for seed, name in enumerate("abc"))
        both = asyncio.gather(cache.prepare(a), cache.prepare(a))
        opening.set()
        await both
        assert opened == [a.version]
        await cache.prepare(b)
        assert (cache.get(b.version), cache.get(a.version)) == ("b", "a")
        with pytest.raises(WrongVersion, match="expected model third"):
            await cache.prepare(ModelRef(a.path, "third"))
        assert cache.get(b.version)
        assert cache.get(a.version)
        await cache.prepare(c)  # b was used least recently
        with pytest.raises(WrongVersion, match=f"expected model {b.version}, found {a.version} and {c.version}"):
            cache.get(b.version)

    asyncio.run(story())


def test_a_source_without_a_deployment_lives_in_the_shared_one(tiny_artifact: Path) -> None:
    artifact = open_artifact(tiny_artifact)
    names = source_names(artifact)
    assert large_sources(artifact) == ()
    assert sources_by_deployment(artifact, ()) == {SHARED: names}
    assert sources_by_deployment(artifact, ("als", "gone")) == {"als": ("als",), SHARED: tuple(name for name in names if name != "als")}
    assert sorted(name for of_deployment in sources_by_deployment(artifact, names).values() for name in of_deployment) == sorted(names)
