"""Just-in-time compilation (numba) of loops over arrays, cached on disk.

Input: a function over numpy arrays and numbers. Output: the same function, some hundred times faster, which lets other
threads run meanwhile. Kernels that call each other stand in one file: the copy on disk is renewed when that file changes,
and knows of no other. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """`function` as machine code. Sums may be taken in another order than written, the same one at every call; NaN stays NaN."""
    compile_it = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
    return cast(Callable[P, R], compile_it(function))
