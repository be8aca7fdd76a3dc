"""The load generator: what it asks, when, and what it makes of the answers; against a server of this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import load
from benchmarks.load import Answer, Plan

PLAN = Plan("127.0.0.1", 0, "/v1/recommend", k=2, seconds=0.2, warm_up=0.05)
GOOD = b'{"tracks": [1, 2], "degraded": []}'
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def test_requests_are_due_evenly_and_the_last_before_the_end() -> None:
    assert list(load.due(4, 1)) == [0, 0.25, 0.5, 0.75]
    assert list(load.due(0.5, 3)) == [0, 2]


def test_percentiles_are_of_milliseconds() -> None:
    found = load.milliseconds([i / 1000 for i in range(101)])
    assert found == {"p50": 50, "p95": 95, "p99": 99, "mean": 50, "longest": 100}
    assert load.milliseconds([]) == {}


def test_latency_counts_from_when_a_request_was_due() -> None:
    answers = [
        Answer(due=10.0, sent=10.0, ended=10.1, status="200", body=GOOD),
        Answer(due=10.5, sent=11.0, ended=11.5, status="200", body=b'{"tracks": [1], "degraded": ["als"]}'),
        Answer(due=10.9, sent=10.9, ended=13.0, status="200"),  # after the time, and not looked into
        Answer(due=10.9, sent=10.9, ended=10.9, status=load.LOST),
    ]
    found = load.figures(answers, start=10.0, seconds=2.0, k=2)
    assert (found["requests"], found["requests_per_second"]) == (4, 1.0)
    assert (found["errors"], found["incomplete"], found["degraded"], found["looked_into"]) == (2, 1, 1, 2)
    assert found["milliseconds"]["longest"] == 2100
    assert found["milliseconds_sent_late"]["longest"] == 500
    assert found["statuses"] == {"200": 3, "connection lost": 1}


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes = b"", body: bytes = GOOD) -> None:
    """As long as the connection lasts."""
    while length := load.LENGTH.search(await reader.readuntil(b"\r\n\r\n")):
        assert json.loads(await reader.readexactly(int(length[1])))
        writer.write(head or b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        await asyncio.sleep(0)  # an answer in two pieces
        writer.write(body)


def asked(plan: Plan, handler: Handler) -> dict[str, Any]:
    async def both() -> dict[str, Any]:
        async def until_left(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handler(reader, writer)
            except (EOFError, OSError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(until_left, plan.host)
        port = server.sockets[0].getsockname()[1]
        try:
            return await load.load(replace(plan, port=port), [b'{"k": 2}', b'{"k": 2, "title": "x"}'])
        finally:
            server.close()

    return asyncio.run(both())


@pytest.mark.parametrize("how", [{"clients": 3}, {"rate": 100.0}])
def test_it_asks_and_reads_what_came_back(how: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(replace(PLAN, **how), answered)
    assert found["errors"] == 0
    assert found["looked_into"] == found["requests"] == found["statuses"]["200"]
    assert found["requests"] == 20 if "rate" in how else found["requests"] > 20
    assert capsys.readouterr().out == "start\nend\n"


def test_of_many_answers_some_are_looked_into() -> None:
    found = asked(replace(PLAN, rate=100.0, look_into=5), answered)
    assert (found["requests"], found["looked_into"]) == (20, 4)


def test_a_service_that_stalls_is_asked_no_less() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        await answered(reader, writer)

    assert asked(replace(PLAN, rate=100.0, warm_up=0), slow)["requests"] == 20


def test_what_is_no_good_answer_is_an_error() -> None:
    async def closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async def refused(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answered(reader, writer, b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n", b"{}")

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answered(reader, writer, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    for handler, status in ((closed, load.LOST), (refused, "429"), (endless, load.UNREADABLE)):
        found = asked(PLAN, handler)
        assert found["errors"] == found["statuses"][status] == found["requests"] > 0
        assert found["requests_per_second"] == 0


def test_an_answer_that_never_comes_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(load, "PATIENCE_S", 0.1)
    for how in ({"clients": 3}, {"rate": 15.0}):
        assert asked(replace(PLAN, warm_up=0, **how), silent)["statuses"] == {load.UNANSWERED: 3}


def test_a_plan_travels_in_lines() -> None:
    line, *bodies = load.in_lines(PLAN, [b"{}", b"[]"]).split(b"\n")
    assert (Plan(**json.loads(line)), bodies) == (PLAN, [b"{}", b"[]"])
