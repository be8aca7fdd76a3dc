"""The door: who may come in, how much they may carry, and under which request id; who left, and with what.

Input: any ASGI request. Output: the same request with an id, its body read and bounded; or problem details. Either way a
line in the access log and a measurement. Plain ASGI, so that it costs microseconds. Keys are compared in constant time and
never written anywhere, nor is anything that was asked. Knows no route.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import re
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.serve.telemetry import NoTelemetry, Telemetry
from features.domain import SegueError

KEYS_VARIABLE, KEYS_FILE_VARIABLE = "SEGUE_API_KEYS", "SEGUE_API_KEYS_FILE"
LARGEST_BODY = 1 << 20
"""Bytes."""
REQUEST_ID = "segue.request_id"
TOLD = "segue.told"
"""Where in the scope a route leaves what the access log should say besides."""
ACCESS = "segue.access"
LOG = logging.getLogger(ACCESS)
_HEADER = "x-request-id"
_OPEN = ("/healthz", "/readyz", "/docs", "/openapi.json")
"""Paths that need no key, below wherever the application is mounted; every other one does, known or not."""
_TITLES = {
    401: "API key needed",
    404: "Not found",
    405: "Method not allowed",
    413: "Body too large",
    422: "Bad request",
    429: "Too many requests",
    500: "Internal error",
    504: "No answer in time",
}
RETRY_AFTER = 1
"""Seconds."""


def keys_of_environment() -> tuple[str, ...]:
    """The keys in SEGUE_API_KEYS, separated by commas, and in the file that SEGUE_API_KEYS_FILE names, a line each.

    None means that everybody is let in; a file that cannot be read, or holds none, means that nobody knows: a SegueError.
    """
    said = os.environ.get(KEYS_VARIABLE, "").split(",")
    if path := os.environ.get(KEYS_FILE_VARIABLE):
        said += _keys_in(Path(path))
    return tuple(key for part in said if (key := part.strip()))


def _keys_in(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SegueError(f"{KEYS_FILE_VARIABLE}: expected a file with a key a line, found {path}: {error}") from error
    if not any(line.strip() for line in lines):
        raise SegueError(f"{KEYS_FILE_VARIABLE}: expected a key a line in {path}, found none")
    return lines


class Door:
    """ASGI middleware."""

    def __init__(
        self,
        app: ASGIApp,
        keys: tuple[str, ...] = (),
        largest_body: int = LARGEST_BODY,
        tell_id: bool = True,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`tell_id`: write the request id into the answer's headers; not where something in front of us already does."""
        self._app, self._largest, self._tell_id = app, largest_body, tell_id
        self._keys = tuple(key.encode() for key in keys)
        self._telemetry: Telemetry = telemetry or NoTelemetry()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500
        headers = Headers(scope=scope)
        scope[REQUEST_ID] = _request_id(headers.get(_HEADER))

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._tell_id:
                    MutableHeaders(scope=message)[_HEADER] = scope[REQUEST_ID]
            await send(message)

        try:
            await self._let_in(scope, headers, receive, sent)
        finally:
            self._note(scope, status, time.perf_counter() - start)

    async def _let_in(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope, headers)
        body = None if refusal else await _body(receive, self._largest)
        if refusal is None and body is None:
            refusal = self._too_large(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
        else:
            await self._app(scope, _again(body or b"", receive), send)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = str(getattr(scope.get("route"), "path", "none"))  # what was asked for instead is the asker's, and has no end
        self._telemetry.request(route, status, seconds)
        if LOG.isEnabledFor(logging.INFO):
            told = {"request_id": scope[REQUEST_ID], "method": scope["method"], "route": route, "status": status}
            LOG.info("request", extra={**told, "milliseconds": round(1000 * seconds, 2), **scope.get(TOLD, {})})

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if self._keys and _path(scope) not in _OPEN and not self._knows(_key(headers)):
            detail = "Send one of the service's keys as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
            return problem(scope, 401, "api-key", detail)
        length = headers.get("content-length", "0")
        return self._too_large(scope) if length.isdecimal() and int(length) > self._largest else None

    def _too_large(self, scope: Scope) -> Response:
        return problem(scope, 413, "too-large", f"body: expected at most {self._largest} bytes, found more")

    def _knows(self, key: str) -> bool:
        """Every key is compared, whichever matches."""
        return any([hmac.compare_digest(key.encode(), one) for one in self._keys])  # noqa: C419


def _path(scope: Scope) -> str:
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root else path


def _key(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _request_id(sent: str | None) -> str:
    """What was sent, where it can be written into a log line; else a new one."""
    return sent if sent and re.fullmatch(r"[\w.:-]{1,128}", sent, re.ASCII) else uuid4().hex


async def _body(receive: Receive, largest: int) -> bytes | None:
    """The whole body; None when it is larger than it may be."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > largest:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever else comes: a disconnect."""
    read = False

    async def once() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once


def problem(scope: Scope, status: int, kind: str, detail: str, errors: list[dict[str, Any]] | None = None) -> Response:
    """Problem details, RFC 9457."""
    told: dict[str, Any] = {
        "type": f"urn:segue:problem:{kind}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "request_id": scope.get(REQUEST_ID, ""),
    }
    headers = {429: {"retry-after": str(RETRY_AFTER)}, 401: {"www-authenticate": "Bearer"}}.get(status)
    content = json.dumps(told | ({"errors": errors} if errors else {})).encode()
    return Response(content, status, headers, "application/problem+json")
