"""Files that may be damaged, foreign or hostile: whatever fails in reading one is a single line that says what to do.

Input: a block of code that reads a file, and what it expects of it. Output: what the block does, or one SegueError. What the
machine refuses (too many open files, no memory, no permission) stays an OSError or a MemoryError: the file is not to blame, and
another copy of it would not help. Knows no format.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError

import polars as pl

from features.domain import SegueError

RETRAIN = "The artifact was changed or cut short after it was written. Copy it again or run `segue train`."
REFUSALS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EIO)
"""What the system says where no file is to blame."""
UNREADABLE: tuple[type[BaseException], ...] = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    SyntaxError,
    TokenError,
    RecursionError,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,  # no Exception to Python: a thread of polars' own gave up
)
"""What the parsers of the plain formats raise for bytes they cannot make sense of."""


@contextmanager
def reading(path: Path, expected: str, repair: str = RETRAIN, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Whatever cannot be read in the block is a SegueError: `path`, what was `expected`, what was found, how to `repair` it.

    What the machine refuses is an OSError with its number and `path`, or a MemoryError; a SegueError of the block's own passes.
    `also`: errors of a parser that has a kind of its own.
    """
    try:
        yield
    except (SegueError, MemoryError):
        raise
    except (*UNREADABLE, *also) as error:
        if (number := _refusal(error)) is not None:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise SegueError(f"{path}: expected {expected}, found {first_line(error)}. {repair}") from error


def first_line(error: BaseException) -> str:
    """What it says, without the rest; its name where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _refusal(error: BaseException) -> int | None:
    """The system's number for what the machine refused, also where a library tells it in words; None where the file is to blame."""
    number = getattr(error, "errno", None)
    return next((refused for refused in REFUSALS if number == refused or os.strerror(refused) in str(error)), None)
