"""API keys: from the environment, and compared in constant time.

Input: SEGUE_API_KEYS, keys separated by commas, and SEGUE_API_KEYS_FILE, a file with a key on each line. Output: whether a
request carries one of them. Keys are never logged.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable
from pathlib import Path

from starlette.datastructures import Headers

from features.domain import SegueError

KEYS_VARIABLE, KEYS_FILE_VARIABLE = "SEGUE_API_KEYS", "SEGUE_API_KEYS_FILE"


def keys_from_environment() -> tuple[str, ...]:
    """Without keys every request is accepted. A file that cannot be read or has no key is a SegueError: no request is accepted."""
    keys = os.environ.get(KEYS_VARIABLE, "").split(",")
    if path := os.environ.get(KEYS_FILE_VARIABLE):
        keys += _keys_in(Path(path))
    return tuple(key for part in keys if (key := part.strip()))


def _keys_in(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SegueError(f"{KEYS_FILE_VARIABLE}: expected a file with a key a line, found {path}: {error}") from error
    if not any(line.strip() for line in lines):
        raise SegueError(f"{KEYS_FILE_VARIABLE}: expected a key a line in {path}, found none")
    return lines


def has_key(headers: Headers, keys: Iterable[bytes]) -> bool:
    """Whether `Authorization: Bearer KEY`, else `X-API-Key: KEY`, is one of `keys`; all of them are compared, whichever matches."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    sent = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return any([hmac.compare_digest(sent.encode(), key) for key in keys])  # noqa: C419
