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
    """Where neither variable is set there are none, and every request is accepted.

    A variable without a key in it, or a file that cannot be read, is a SegueError: somebody meant to have keys.
    """
    keys: list[str] = []
    if (listed := os.environ.get(KEYS_VARIABLE)) is not None:
        keys += _some(listed.split(","), KEYS_VARIABLE, "keys separated by commas")
    if (path := os.environ.get(KEYS_FILE_VARIABLE)) is not None:
        keys += _some(_lines(Path(path)), KEYS_FILE_VARIABLE, f"a key a line in {path}")
    return tuple(dict.fromkeys(keys))


def _lines(path: Path) -> list[str]:
    """Without those that begin with `#`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SegueError(f"{KEYS_FILE_VARIABLE}: expected a file with a key a line, found {path}: {error}") from error
    return [line for line in lines if not line.lstrip().startswith("#")]


def _some(parts: Iterable[str], variable: str, expected: str) -> list[str]:
    keys = [key for part in parts if (key := part.strip())]
    if not keys:
        raise SegueError(f"{variable}: expected {expected}, found none. Unset {variable} to serve everybody who reaches the port")
    return keys


def has_key(headers: Headers, keys: Iterable[bytes]) -> bool:
    """Whether `Authorization: Bearer KEY`, else `X-API-Key: KEY`, is one of `keys`; all of them are compared, whichever matches."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    sent = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    as_sent = sent.encode("latin-1")  # as headers are decoded
    return any([hmac.compare_digest(as_sent, key) for key in keys])  # noqa: C419
