"""ASGI middleware: API keys, the limits of a body, request ids, relative redirects, access log and request metrics.

Input: any ASGI request. Output: the same request with an id and its whole body, or problem details; in both cases a line in the
access log and a measurement. Plain ASGI, which costs microseconds. Nothing that a request contains is logged. Independent of
routes.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from urllib.parse import urlsplit
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.serve.api_keys import has_key
from engine.serve.problems import REQUEST_ID, problem
from engine.serve.telemetry import NoTelemetry, Telemetry

MAX_BODY_BYTES = 1 << 20
ARRIVED = "segue.arrived"
"""Where the ASGI scope has the time, as of time.monotonic, at which the request arrived."""
BODY_S = 5.0
"""Seconds in which a body must have arrived: while it arrives it holds a place."""
LOG_FIELDS = "segue.log_fields"
"""Where the ASGI scope has further fields for the access log, set by a route."""
ACCESS_LOG = "segue.access"
LOG = logging.getLogger(ACCESS_LOG)
_HEADER = "x-request-id"
_OPEN_PATHS = ("/healthz", "/readyz", "/docs", "/openapi.json")
"""Paths that need no key, below the path where the application is mounted; all others need one, whether they exist or not."""


class Middleware:
    """Wraps the whole application, error handling of the framework included."""

    def __init__(
        self,
        app: ASGIApp,
        keys: tuple[str, ...] = (),
        max_body_bytes: int = MAX_BODY_BYTES,
        body_s: float = BODY_S,
        echo_request_id: bool = True,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`echo_request_id`: write the request id into the answer's headers; False where Ray Serve already does."""
        self._app, self._max_body_bytes, self._body_s, self._echo_request_id = app, max_body_bytes, body_s, echo_request_id
        self._keys = tuple(key.encode() for key in keys)
        self._telemetry: Telemetry = telemetry or NoTelemetry()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500
        headers = Headers(scope=scope)
        scope[REQUEST_ID], scope[ARRIVED] = _request_id(headers.get(_HEADER)), time.monotonic()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._echo_request_id:
                    MutableHeaders(scope=message)[_HEADER] = scope[REQUEST_ID]
                if 300 <= status < 400:
                    _make_relative(MutableHeaders(scope=message))
            await send(message)

        try:
            await self._check_and_call(scope, headers, receive, send_with_id)
        finally:
            self._record(scope, status, time.perf_counter() - start)

    async def _check_and_call(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        answer = self._refusal(scope, headers) or await self._body_or_refusal(scope, receive)
        if isinstance(answer, Response):
            await answer(scope, receive, send)
        else:
            await self._app(scope, _replay(answer, receive), send)

    async def _body_or_refusal(self, scope: Scope, receive: Receive) -> bytes | Response:
        try:
            async with asyncio.timeout(self._body_s):
                body = await _read_body(receive, self._max_body_bytes)
        except TimeoutError:
            return problem(scope, 408, "too-late", f"body: expected all of it within {self._body_s:g} s, found a part")
        return self._too_large(scope) if body is None else body

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = str(getattr(scope.get("route"), "path", "none"))  # not the path, which a client may choose freely
        self._telemetry.record_request(route, status, seconds)
        if LOG.isEnabledFor(logging.INFO):
            fields = {"request_id": scope[REQUEST_ID], "method": scope["method"], "route": route, "status": status}
            LOG.info("request", extra={**fields, "milliseconds": round(1000 * seconds, 2), **scope.get(LOG_FIELDS, {})})

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if self._keys and _path(scope) not in _OPEN_PATHS and not has_key(headers, self._keys):
            detail = "Send one of the service's keys as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
            return problem(scope, 401, "api-key", detail)
        length = headers.get("content-length", "0")
        return self._too_large(scope) if length.isdecimal() and int(length) > self._max_body_bytes else None

    def _too_large(self, scope: Scope) -> Response:
        return problem(scope, 413, "too-large", f"body: expected at most {self._max_body_bytes} bytes, found more")


def _path(scope: Scope) -> str:
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root else path


def _make_relative(headers: MutableHeaders) -> None:
    """The redirect without scheme and host, which are those of this process and need not be what the client asked for."""
    if location := headers.get("location"):
        headers["location"] = urlsplit(location)._replace(scheme="", netloc="").geturl()


def _request_id(sent: str | None) -> str:
    """The id that the client sent, where it can be written into a log line; else a new one."""
    return sent if sent and re.fullmatch(r"[\w.:-]{1,128}", sent, re.ASCII) else uuid4().hex


async def _read_body(receive: Receive, max_bytes: int) -> bytes | None:
    """The whole body; None when it is larger than `max_bytes`."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_bytes:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """First the body that was already read, then what `receive` brings: a disconnect."""
    sent = False

    async def receive_again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
