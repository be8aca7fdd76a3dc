"""`segue bench`: the benchmarks of the checkout, by name.

Input: a name and a benchmark's own arguments. Output: what it prints and writes, and its exit code. A benchmark is a module
of the folder `benchmarks` beside this package, run in an interpreter of its own where the caller stands, so that relative
paths are the caller's. Knows no benchmark: what there is and what each asks is read from the folder.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from features.domain import SegueError

CHECKOUT = Path(__file__).parents[2]
FOLDER = "benchmarks"
WRITES_TABLES = "tables"
"""The one module of the folder that can be run and measures nothing."""


def benchmarks() -> dict[str, str]:
    """What each measures, in its docstring's first line, by name."""
    found = {}
    for path in sorted((CHECKOUT / FOLDER).glob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        can_be_run = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in module.body)
        if can_be_run and path.stem != WRITES_TABLES:
            found[path.stem] = (ast.get_docstring(module) or "").partition("\n")[0]
    if not found:
        raise SegueError(
            f"bench: expected benchmarks in {CHECKOUT / FOLDER}, found none. They are part of the checkout alone; run it from there"
        )
    return found


def run(name: str, arguments: Sequence[str]) -> int:
    """The benchmark's exit code; an unknown name is a SegueError."""
    known = benchmarks()
    if name not in known:
        raise SegueError(f"bench: expected one of {', '.join(known)}, found {name}. See `segue bench`")
    paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # -P: a folder of the caller's that is called `benchmarks` is not taken for ours
    command = [sys.executable, "-P", "-m", f"{FOLDER}.{name}", *arguments]
    code = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, check=False).returncode
    return code if code >= 0 else 128 - code


@contextmanager
def one_line_of(name: str) -> Iterator[None]:
    """In a benchmark of that name: a SegueError of the block is one line on stderr, and the exit code 2."""
    try:
        yield
    except SegueError as error:
        print(f"segue bench {name}: {error}", file=sys.stderr)
        sys.exit(2)
