"""`python -m engine.serve`: what every node of a cluster needs in its environment before Ray starts, as a shell reads it.

    eval "$(python -m engine.serve)"            # or: python -m engine.serve /run/segue

Input: a folder for HAProxy, with a short path, which must stay as long as Ray runs; without one it is made in /tmp. Output: a line
`export NAME=VALUE` for each setting that the environment does not have yet, and what belongs into the folder. Starts nothing.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from engine.serve.cluster import EDGE_IN, ENVIRONMENT
from engine.serve.edge import edge


def main(arguments: Sequence[str]) -> None:
    folder = Path(*arguments) if arguments else Path(tempfile.mkdtemp(prefix="segue-", dir=EDGE_IN))
    missing = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    for name, value in (missing | edge(folder)).items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main(sys.argv[1:])
