"""Every error of the HTTP service as problem details (RFC 9457).

Input: a status, a kind and one line of text. Output: the response, with the id of its request. Independent of routes and models.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response
from starlette.types import Scope

REQUEST_ID = "segue.request_id"
"""Where the ASGI scope has the id of the request."""
RETRY_AFTER_S = 1
MEDIA_TYPE = "application/problem+json"
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
_HEADERS = {429: {"retry-after": str(RETRY_AFTER_S)}, 401: {"www-authenticate": "Bearer"}}


def problem(scope: Scope, status: int, kind: str, detail: str, errors: list[dict[str, Any]] | None = None) -> Response:
    """`kind` ends the problem's type, urn:segue:problem:KIND."""
    content: dict[str, Any] = {
        "type": f"urn:segue:problem:{kind}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "request_id": scope.get(REQUEST_ID, ""),
    }
    body = json.dumps(content | ({"errors": errors} if errors else {})).encode()
    return Response(body, status, _HEADERS.get(status), MEDIA_TYPE)
