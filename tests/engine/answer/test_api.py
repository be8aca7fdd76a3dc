"""The HTTP service without a cluster: every route, every error as problem details, the middleware."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from engine.answer import api
from engine.model import Model
from engine.serve.active_model import ActiveModel
from engine.serve.api_keys import keys_from_environment
from engine.serve.gateway import Gateway
from engine.serve.middleware import MAX_BODY_BYTES, Middleware
from engine.serve.model_cache import check_artifact
from engine.serve.orchestrator import Limits
from engine.serve.ports import free_port
from engine.serve.routes import web_app
from engine.serve.service import running_service
from engine.serve.telemetry import NoTelemetry
from features.domain import Queries, Query, SegueError
from features.schema import NUMERIC_FEATURES

JSON = {"content-type": "application/json"}


def opened(path: Path, limits: Limits, threads: int) -> Gateway:
    active = ActiveModel.in_process(limits, threads)
    asyncio.run(active.activate(check_artifact(str(path))))
    return active.gateway


@pytest.fixture(scope="module")
def gateway(tiny_artifact: Path) -> Gateway:
    return opened(tiny_artifact, Limits(), 2)


@pytest.fixture(scope="module")
def app(gateway: Gateway) -> ASGIApp:
    return web_app(lambda: gateway)


def send(app: ASGIApp, method: str, path: str, **more: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://segue") as client:
            return await client.request(method, path, **more)

    return asyncio.run(once())


def recommend(app: ASGIApp, **body: Any) -> httpx.Response:
    return send(app, "POST", "/v1/recommend", json=body)


def is_problem(answer: httpx.Response, status: int, *words: str) -> dict[str, Any]:
    told: dict[str, Any] = answer.json()
    assert answer.status_code == status, told
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(told) - {"errors"} == {"type", "title", "status", "detail", "request_id"}
    assert told["status"] == status
    assert told["request_id"] == answer.headers["x-request-id"]
    assert all(word in told["detail"] for word in words), told["detail"]
    return told


def test_the_answer_over_http_is_that_of_the_pipeline(app: ASGIApp, tiny_model: Model) -> None:
    names, pipeline = tiny_model.names, tiny_model.pipeline
    seeds = names.vocabulary.index_of(names.vocabulary.ids([3, 8, 21]))
    expected = pipeline.recommend(Queries.of([Query(seeds, "jazz")]), 12)
    told = recommend(app, tracks=names.vocabulary.ids([3, 8, 21]), title="jazz", k=12).json()
    assert [track["track_id"] for track in told["tracks"]] == names.vocabulary.ids(expected.ranking.tracks[0])
    assert [track["score"] for track in told["tracks"]] == pytest.approx(expected.ranking.scores[0].tolist())
    assert told["model"] == {"version": tiny_model.artifact.manifest.version}
    assert told["unknown_tracks"] == told["degraded"] == []
    assert set(told["tracks"][0]) == {"track_id", "title", "artist", "score", "sources", "why"}


def test_a_known_playlist_is_continued_without_its_own_tracks(app: ASGIApp, tiny_model: Model) -> None:
    playlist = tiny_model.names.playlists
    told = recommend(app, playlist_id=playlist.ids[4], k=50).json()
    own = set(tiny_model.names.vocabulary.ids(playlist.tracks.row(4)))
    assert len(told["tracks"]) == 50
    assert not {track["track_id"] for track in told["tracks"]} & own


def test_nothing_asked_is_the_popular_answer(app: ASGIApp) -> None:
    told = recommend(app).json()
    assert len(told["tracks"]) == 10
    assert all(set(track["sources"]) == {"popularity"} for track in told["tracks"])


def test_unknown_tracks_are_named_and_no_error(app: ASGIApp) -> None:
    told = recommend(app, tracks=["never heard of"], k=2)
    assert told.status_code == 200
    assert told.json()["unknown_tracks"] == ["never heard of"]
    assert len(told.json()["tracks"]) == 2


def test_an_unknown_playlist_or_track_is_404(app: ASGIApp) -> None:
    assert (
        is_problem(recommend(app, playlist_id="nowhere"), 404, "known playlists", "nowhere")["type"] == "urn:segue:problem:unknown-playlist"
    )
    is_problem(send(app, "POST", "/v1/similar", json={"track_id": "nothing"}), 404, "known tracks", "nothing")
    is_problem(send(app, "GET", "/v1/nothing"), 404)
    is_problem(send(app, "GET", "/v1/recommend"), 405)


@pytest.mark.parametrize(
    "body",
    [
        {"k": 0},
        {"k": 501},
        {"k": "10"},
        {"k": 1.5},
        {"k": True},
        {"tracks": ["a"] * 1_001},
        {"tracks": [""]},
        {"tracks": ["a" * 201]},
        {"tracks": [1]},
        {"tracks": None},
        {"exclude": ["a"] * 10_001},
        {"title": "a" * 501},
        {"diversity": 1.5},
        {"diversity": -0.1},
        {"diversity": "0.5"},
        {"explain": 0},
        {"explain": "true"},
        {"filters": {"energy": {"min": "1"}}},
        {"unknown_key": 1},
        {"filters": {"colour": "red"}},
        {"filters": {"energy": {"min": 2, "max": 1}}},
        {"filters": {"explicit": "no"}},
        {"filters": {"genre": []}},
        [],
        "text",
        None,
    ],
)
def test_a_bad_body_is_422_and_says_where(app: ASGIApp, body: Any) -> None:
    told = is_problem(send(app, "POST", "/v1/recommend", json=body), 422, "body")
    assert told["errors"]
    assert all(set(error) == {"at", "message"} for error in told["errors"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"diversity": NaN}',
        b'{"diversity": Infinity}',
        b'{"filters": {"energy": {"min": NaN}}}',
        b'{"title": "\\ud800"}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_json_or_no_number_or_no_text_is_422(app: ASGIApp, content: bytes) -> None:
    is_problem(send(app, "POST", "/v1/recommend", content=content, headers=JSON), 422)


def test_a_whole_number_may_be_written_with_a_point_as_in_json_schema(app: ASGIApp) -> None:
    assert len(recommend(app, k=3.0).json()["tracks"]) == 3


def test_of_many_errors_the_first_ten_are_listed_and_all_are_counted(app: ASGIApp) -> None:
    answer = recommend(app, tracks=[1] * 900)
    told = is_problem(answer, 422, "body.tracks.0", "and 899 more")
    assert len(told["errors"]) == 10
    assert len(answer.content) < 2_000


def test_with_a_full_queue_no_body_is_parsed(tiny_artifact: Path) -> None:
    refusing = opened(tiny_artifact, Limits(max_waiting=0), 1)
    is_problem(send(web_app(lambda: refusing), "POST", "/v1/recommend", content=b"{", headers=JSON), 429)


def test_a_body_that_is_too_large_is_413_announced_or_not(app: ASGIApp) -> None:
    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65_536 + 1):
            yield b" " * 65_536

    is_problem(send(app, "POST", "/v1/recommend", content=b" " * (MAX_BODY_BYTES + 1), headers=JSON), 413, str(MAX_BODY_BYTES))
    is_problem(send(app, "POST", "/v1/recommend", content=unannounced(), headers=JSON), 413, str(MAX_BODY_BYTES))


def test_a_body_that_stops_is_408(gateway: Gateway) -> None:
    async def stopping() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    hurried = Middleware(web_app(lambda: gateway), body_s=0.1)
    is_problem(send(hurried, "POST", "/v1/recommend", content=stopping(), headers=JSON), 408, "within 0.1 s")


def test_a_redirect_names_no_host(app: ASGIApp) -> None:
    answer = send(app, "GET", "/v1/tracks/?q=a")
    assert (answer.status_code, answer.headers["location"]) == (307, "/v1/tracks?q=a")


def test_a_body_in_pieces_is_read_whole(app: ASGIApp) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in json.dumps({"k": 3}).encode():
            yield bytes([piece])

    assert len(send(app, "POST", "/v1/recommend", content=pieces(), headers=JSON).json()["tracks"]) == 3


def test_a_key_is_needed_where_keys_are_configured(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGUE_API_KEYS", "first, second,, schlüssel")
    guarded = web_app(lambda: gateway, keys_from_environment())
    assert is_problem(recommend(guarded), 401, "Authorization")["type"] == "urn:segue:problem:api-key"
    for headers in ({"authorization": "Bearer wrong"}, {"x-api-key": ""}, {"authorization": "Basic first"}, {"x-api-key": "first, second"}):
        answer = send(guarded, "POST", "/v1/recommend", json={}, headers=headers)
        is_problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    for headers in ({"authorization": "Bearer first"}, {"x-api-key": "second"}, {"x-api-key": "schlüssel".encode()}):
        assert send(guarded, "POST", "/v1/recommend", json={}, headers=headers).status_code == 200
    for path in ("/v1/model", "/v1/tracks?q=a", "/", "/v1/healthz", "/elsewhere"):
        is_problem(send(guarded, "GET", path), 401)
    assert send(guarded, "GET", "/healthz").status_code == send(guarded, "GET", "/readyz").status_code == 200


def test_without_configured_keys_everybody_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGUE_API_KEYS", raising=False)
    assert keys_from_environment() == ()


@pytest.mark.parametrize("variable", ["SEGUE_API_KEYS", "SEGUE_API_KEYS_FILE"])
@pytest.mark.parametrize("blank", ["", " , "])
def test_keys_that_are_set_but_blank_start_nothing(tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch, variable: str, blank: str) -> None:
    monkeypatch.setenv(variable, blank)
    with pytest.raises(SegueError, match=f"{variable}: expected .* found"), running_service(tiny_artifact, port=free_port()):
        pass


def test_keys_may_be_in_a_file_and_a_file_without_keys_lets_nobody_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys"
    monkeypatch.setenv("SEGUE_API_KEYS_FILE", str(keys))
    monkeypatch.setenv("SEGUE_API_KEYS", "first")
    with pytest.raises(SegueError, match="SEGUE_API_KEYS_FILE: expected a file with a key a line"):
        keys_from_environment()
    keys.write_text("\n  \n")
    with pytest.raises(SegueError, match=r"expected a key a line in .*keys, found none"):
        keys_from_environment()
    keys.write_text("second\n third \n# a comment\n  # another\nschlüssel\n")
    assert keys_from_environment() == ("first", "second", "third", "schlüssel")


def test_every_request_is_measured_and_logged_without_what_was_asked(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[str, int]] = []

    class Heard(NoTelemetry):
        def record_request(self, route: str, status: int, seconds: float) -> None:
            assert 0 < seconds < 60
            heard.append((route, status))

    app = web_app(lambda: gateway, ("secret",), telemetry=Heard())
    with caplog.at_level(logging.INFO, "segue.access"):
        headers = {"x-api-key": "secret", "x-request-id": "mine"}
        send(app, "POST", "/v1/recommend", json={"title": "a private title", "k": 3}, headers=headers)
        send(app, "GET", "/v1/tracks?q=private", headers=headers)
        send(app, "GET", "/elsewhere/private", headers=headers)
        send(app, "POST", "/v1/recommend", json={"title": "private"}, headers={"x-api-key": "wrong-secret"})
    assert heard == [("/v1/recommend", 200), ("/v1/tracks", 200), ("none", 404), ("none", 401)]
    first, *_ = (record.__dict__ for record in caplog.records)
    assert (first["request_id"], first["method"], first["status"], first["tracks"], first["degraded"]) == ("mine", "POST", 200, 3, [])
    assert first["model"] == gateway.version
    assert not any(word in str(record.__dict__) for record in caplog.records for word in ("private", "secret"))


def test_overload_is_429_with_retry_after_and_lateness_504(tiny_artifact: Path) -> None:
    refusing, hurried = opened(tiny_artifact, Limits(max_waiting=0), 1), opened(tiny_artifact, Limits(deadline_s=1e-6), 1)
    full = web_app(lambda: refusing)
    answer = recommend(full)
    assert is_problem(answer, 429, "room for one more request")["type"] == "urn:segue:problem:overloaded"
    assert int(answer.headers["retry-after"]) >= 1
    late = web_app(lambda: hurried)
    is_problem(recommend(late), 504, "within 1e-06 s")


def test_our_own_fault_is_500_and_says_nothing_of_the_inside(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(gateway), "recommend", lambda *_: 1 / 0)
    told = is_problem(recommend(web_app(lambda: gateway)), 500)
    assert "division" not in json.dumps(told)


def test_the_request_id_is_echoed_where_it_is_fit_to_be_logged(app: ASGIApp) -> None:
    for sent, kept in (("abc-1.2:3", True), ("a b", False), ("x" * 129, False), ("", False)):
        answer = send(app, "POST", "/v1/recommend", json={"k": 1}, headers={"x-request-id": sent})
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert (answer.headers["x-request-id"] == sent) is kept


def test_similar_tracks_and_whose_space_it_was(app: ASGIApp, tiny_model: Model) -> None:
    track_id = tiny_model.names.vocabulary.ids([3])[0]
    told = send(app, "POST", "/v1/similar", json={"track_id": track_id, "k": 5}).json()
    assert told["space"] == "als"
    assert len(told["tracks"]) == 5
    assert track_id not in {track["track_id"] for track in told["tracks"]}


def test_candidates_are_ranked_and_unknown_ones_named(app: ASGIApp, tiny_model: Model) -> None:
    ids = tiny_model.names.vocabulary.ids(list(range(30, 40)))
    told = send(app, "POST", "/v1/rank", json={"tracks": ids[:2], "candidates": [*ids[2:], "nope"]}).json()
    assert {track["track_id"] for track in told["tracks"]} == set(ids[2:])
    assert told["unknown_tracks"] == ["nope"]
    scores = [track["score"] for track in told["tracks"]]
    assert scores == sorted(scores, reverse=True)
    nothing = send(app, "POST", "/v1/rank", json={"candidates": ["nope"]}).json()
    assert (nothing["tracks"], nothing["unknown_tracks"]) == ([], ["nope"])


def test_tracks_are_found_by_name_and_bounded(app: ASGIApp, tiny_model: Model) -> None:
    artist = tiny_model.names.catalog.table["artist"][0]
    found = send(app, "GET", "/v1/tracks", params={"q": artist.upper(), "limit": 2}).json()["tracks"]
    assert 1 <= len(found) <= 2
    assert all(artist in (track["artist"], track["title"]) for track in found)
    is_problem(send(app, "GET", "/v1/tracks"), 422, "q")
    is_problem(send(app, "GET", "/v1/tracks", params={"q": "a", "limit": 101}), 422, "limit")


def test_the_manifest_and_the_state_are_told(app: ASGIApp, tiny_model: Model) -> None:
    assert send(app, "GET", "/v1/model").json()["version"] == tiny_model.artifact.manifest.version
    assert send(app, "GET", "/healthz").json() == {"status": "ok"}
    ready = send(app, "GET", "/readyz").json()
    assert ready["ready"]
    assert set(ready["stages"]) == {*tiny_model.pipeline.sources, "ranker"}


def test_every_route_and_model_is_in_the_documentation(app: ASGIApp) -> None:
    page = send(app, "GET", "/openapi.json").json()
    assert {"/v1/recommend", "/v1/similar", "/v1/rank", "/v1/tracks", "/v1/model", "/healthz", "/readyz"} == set(page["paths"])
    assert send(app, "GET", "/docs").status_code == 200
    assert page["components"]["schemas"]["Recommend"]["examples"]


def test_the_examples_are_valid_and_every_feature_can_be_filtered() -> None:
    for model in (api.Recommend, api.Similar, api.Rank):
        for example in model.model_json_schema()["examples"]:
            model.model_validate(example)
    assert set(NUMERIC_FEATURES) < set(api.Filters.model_fields)


def test_many_at_once_each_get_their_own_answer(app: ASGIApp, tiny_model: Model) -> None:
    vocabulary = tiny_model.names.vocabulary
    asked = [{"tracks": vocabulary.ids([i, i + 1]), "k": 1 + i % 30} for i in range(60)]

    async def together() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://segue") as client:
            return await asyncio.gather(*(client.post("/v1/recommend", json=body) for body in asked))

    for body, answer in zip(asked, asyncio.run(together()), strict=True):
        query = Query(vocabulary.index_of(body["tracks"]))
        expected = tiny_model.pipeline.recommend(Queries.of([query, query]), body["k"])
        assert [track["track_id"] for track in answer.json()["tracks"]] == vocabulary.ids(expected.ranking.tracks[0])
