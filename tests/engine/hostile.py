"""Requests that no honest client sends, made from the service's own OpenAPI page, and bytes that are no request at all.

A body follows its schema here and breaks it there: a wrong type, a number that is none, a list or a text too long, a key nobody
knows. Everything comes from a seed.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from typing import Any

SCALARS: tuple[Any, ...] = (None, True, False, 0, -1, 1.5, 10**30, -(10**400), float("nan"), float("inf"), -float("inf"), "", "\x00", "NaN")
TEXTS = (
    "../../etc/passwd",
    "'; DROP TABLE tracks; --",
    "\ud800",
    "\U0001d54a" * 300,
    "a" * 5_000,
    "<script>",
    "%s%n",
    "__import__('os')",
    "\u202e",
    "0" * 199,
)
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW")
PATHS = (
    "/",
    "//",
    "/v1",
    "/v1/",
    "/v1/recommend/",
    "/v1/../v1/model",
    "/%2e%2e/etc/passwd",
    "/v1/recommend?x=" + "y" * 2_000,
    "/" + "a" * 4_000,
)
GARBAGE = (
    b"",
    b"\x00" * 100,
    b"\xff\xfe\xfd",
    b"{",
    b"[" * 50_000,
    b'{"k": ' + b"9" * 5_000 + b"}",
    b'{"k": 1}' * 2,
    b'"text"',
    b"null",
    b"\x80abc",
    b"{" + b'"a":{' * 20_000,
    b" " * 1_500_000,
)
RAW = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
    b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 50\r\n\r\n{}{}{}",
    b"\r\n\r\n\r\n",
    b"A" * 10_000,
)

Request = tuple[str, str, dict[str, str], bytes]
"""Method, path, headers, body."""


def requests(page: dict[str, Any], seed: int) -> Iterator[Request]:
    """Without end: for every route that the OpenAPI `page` knows, and for some that it does not."""
    draw, schemas = random.Random(seed), page["components"]["schemas"]
    bodies = {
        path: told["post"]["requestBody"]["content"]["application/json"]["schema"] for path, told in page["paths"].items() if "post" in told
    }
    while True:
        kind = draw.random()
        path = draw.choice(list(bodies))
        headers = {"content-type": draw.choice(("application/json", "application/json", "text/plain", "application/xml", ""))}
        if kind < 0.7:
            yield "POST", path, headers, json.dumps(_made(bodies[path], schemas, draw)).encode()
        elif kind < 0.85:
            yield "POST", path, headers, draw.choice(GARBAGE)
        else:
            asked = draw.choice(
                (*PATHS, *page["paths"], "/v1/tracks?limit=" + draw.choice(("0", "x", "1e9", "-1")) + "&q=" + "z" * draw.randrange(300))
            )
            yield draw.choice(METHODS), asked, {"x-request-id": draw.choice(("a", "b" * 500)), "authorization": "Bearer x"}, b""


def _made(schema: dict[str, Any], schemas: dict[str, Any], draw: random.Random, depth: int = 0) -> Any:
    if draw.random() < 0.12 or depth > 6:
        return _nasty(draw)
    if "$ref" in schema:
        return _made(schemas[schema["$ref"].rpartition("/")[2]], schemas, draw, depth + 1)
    if "anyOf" in schema:
        return _made(draw.choice(schema["anyOf"]), schemas, draw, depth + 1)
    match schema.get("type"):
        case "object":
            told = schema.get("properties", {})
            made = {name: _made(of_name, schemas, draw, depth + 1) for name, of_name in told.items() if draw.random() < 0.4}
            return made | ({draw.choice(("colour", "__class__", "")): _nasty(draw)} if draw.random() < 0.1 else {})
        case "array":
            count = draw.choice((0, 1, 3, 30, schema.get("maxItems", 10) + 1))
            return [_made(schema["items"], schemas, draw, depth + 5) for _ in range(count)]
        case "string":
            return draw.choice((*TEXTS, "road trip", "spotify:track:" + str(draw.randrange(1_000))))
        case "integer":
            return draw.choice((1, 10, 500, 0, 501, -1, 10**20))
        case "number":
            return draw.choice((0.0, 0.5, 1.0, -0.1, 1e300, 120))
        case "boolean":
            return draw.random() < 0.5
    return None


def _nasty(draw: random.Random) -> Any:
    return draw.choice((*SCALARS[1:], *TEXTS, [], {}, [[]], {"a": {"b": [None] * 50}}))


def send_raw(host: str, port: int, garbage: bytes) -> bytes:
    """Whatever comes back within a second, perhaps nothing."""
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(garbage)
        connection.settimeout(1)
        try:
            return connection.recv(4_096)
        except OSError:
            return b""
