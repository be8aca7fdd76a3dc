"""Files that may be damaged, foreign or hostile: whatever fails in reading one is a single line that says what to do.

Input: a block of code that reads a file, and what it expects of it. Output: what the block does, or one SegueError. What the
machine refuses (too many open files, no memory, no permission) is called so: the file is not to blame, and a copy of it would
not help. Knows no format.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError

import polars as pl

from features.domain import SegueError

RETRAIN = "The artifact was changed or cut short after it was written. Copy it again or run `segue train`."
REFUSED: Mapping[int, str] = {
    errno.EMFILE: "Allow more open files, see `ulimit -n`.",
    errno.ENFILE: "Close other programs, or allow more open files on this machine.",
    errno.ENOMEM: "Free memory, or use a machine that has more.",
    errno.EACCES: "Let this user read it.",
    errno.EPERM: "Let this user read it.",
    errno.EIO: "Look at the disk.",
}
"""What is not the file's fault, and what helps."""
UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    SyntaxError,
    TokenError,
    RecursionError,
    MemoryError,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,  # no Exception to Python: a thread of polars' own gave up
)
"""What the parsers of the plain formats raise for bytes they cannot make sense of."""


@contextmanager
def reading(path: Path, expected: str, repair: str = RETRAIN, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Whatever cannot be read in the block is a SegueError: `path`, what was `expected`, what was found, how to `repair` it.

    A SegueError of the block's own passes as it is. `also`: errors of a parser that has a kind of its own.
    """
    try:
        yield
    except SegueError:
        raise
    except (*UNREADABLE, *also) as error:
        if (refusal := _refusal(error)) is not None:
            raise SegueError(f"{path}: expected {expected}, found that the machine refuses: {refusal}") from error
        raise SegueError(f"{path}: expected {expected}, found {_first_line(error)}. {repair}") from error


def _refusal(error: BaseException) -> str | None:
    """What the machine refused, and what helps; None where the file is to blame. Libraries that give no number tell the reason."""
    number = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
    for refused, advice in REFUSED.items():
        if number == refused or os.strerror(refused) in str(error):
            return f"{os.strerror(refused)}. {advice}"
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
