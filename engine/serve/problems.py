"""Every error of the HTTP service as problem details (RFC 9457).

Input: a status, a kind and one line of text. Output: the response or its body, with the id of its request. Independent of routes
and models.
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
    400: "Bad request",
    401: "API key needed",
    404: "Not found",
    405: "Method not allowed",
    408: "Request not complete in time",
    413: "Body too large",
    422: "Bad request",
    429: "Too many requests",
    500: "Internal error",
    502: "Internal error",
    503: "Not available",
    504: "No answer in time",
}
_RETRY = {"retry-after": str(RETRY_AFTER_S)}
_HEADERS = {429: _RETRY, 503: _RETRY, 401: {"www-authenticate": "Bearer"}}


def problem(scope: Scope, status: int, kind: str, detail: str, errors: list[dict[str, Any]] | None = None) -> Response:
    """The response to the request of `scope`; the other arguments as in `problem_details`."""
    return Response(problem_details(status, kind, detail, scope.get(REQUEST_ID, ""), errors), status, headers(status), MEDIA_TYPE)


def problem_details(status: int, kind: str, detail: str, request_id: str, errors: list[dict[str, Any]] | None = None) -> bytes:
    """`kind` ends the problem's type, urn:segue:problem:KIND."""
    content: dict[str, Any] = {
        "type": f"urn:segue:problem:{kind}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    return json.dumps(content | ({"errors": errors} if errors else {})).encode()


def headers(status: int) -> dict[str, str]:
    """What every answer of that status has in its head."""
    return _HEADERS.get(status, {})
