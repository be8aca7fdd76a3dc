"""Steps in memory, and a fit that is cut off after one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stages.resume import Checkpoint


class CutOffError(Exception):
    """What ends the fit; as if the machine had gone."""


@dataclass
class Remembered:
    """Keeps the last state, as files would: copied, and read-only when it is read again."""

    cut_off_after: int | None = None
    """So many more steps are kept before the fit is cut off."""
    kept: Checkpoint | None = None

    def last(self) -> Checkpoint | None:
        return self.kept

    def keep(self, reached: Checkpoint) -> None:
        self.kept = Checkpoint(reached.done, _frozen(reached.own), _frozen(reached.shared))
        if self.cut_off_after is not None:
            self.cut_off_after -= 1
            if self.cut_off_after == 0:
                self.cut_off_after = None
                raise CutOffError


def _frozen(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    copies = {name: np.array(array) for name, array in state.items()}
    for name, array in copies.items():
        assert array.dtype != object, name
        array.flags.writeable = False
    return copies
