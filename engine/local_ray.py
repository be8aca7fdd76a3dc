"""A Ray of this machine alone: nobody else reaches its ports, and nobody else reads its token.

Input: the environment, before Ray is imported. Output: settings, and the file with Ray's token. Both who serve and who train start
such a Ray. Imports no Ray.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

LOOPBACK = "127.0.0.1"
LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Every process of Ray listens on 127.0.0.1: Ray's switch for machines where a cluster is not wanted."""
AUTH_MODE = "RAY_AUTH_MODE"


def is_loopback(address: str) -> bool:
    """Whether HOST:PORT is of this machine alone."""
    return address.rpartition(":")[0].strip("[]") in {LOOPBACK, "::1", "localhost"}


def authenticated() -> bool:
    """Whether Ray asks everybody for its token, as it does unless the environment says otherwise."""
    return os.environ.get(AUTH_MODE, "token").lower() == "token"


def private_token() -> None:
    """Ray's token is in a file that its owner alone can read: Ray writes it so that everybody on the machine can.

    A token that the environment names is left as it is.
    """
    if not authenticated() or os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        path.chmod(0o600)
