"""An Annoy file before Annoy reads it: every node is looked at once, for Annoy itself follows whatever number stands in one.

Input: a file, the coordinates of a vector and how many items there should be. Output: nothing, or a SegueError. A file is an array of
nodes of one size: how many items are below it, two children or more, and a vector. The first nodes are the items. A node of more
items than it has room for is a split with two children; one of fewer lists its items. The last nodes are copies of the roots
(annoylib.h of Annoy 1.17). Knows no query.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.arrays import LARGEST
from features.domain import Ints, SegueError
from features.reading import RETRAIN, reading

HEAD = 3
"""Numbers of a node before its vector: how many items are below it, and two children; of an item its length is in their place."""
BLOCK = 4_096
"""Nodes looked at together."""
DEEPEST = 1_000
"""Splits above an item; Annoy's own halve their items, seldom worse than 1 to 20."""


def require_forest(path: Path, dim: int, num_items: int) -> None:
    """SegueError where the file is no forest over `num_items` vectors of `dim` coordinates in which every search comes to an end."""
    width = (HEAD + dim) * np.dtype(np.int32).itemsize
    with reading(path, f"an Annoy file of {num_items:,} vectors"):
        size = path.stat().st_size
        if not size or size % width:
            raise ValueError(f"{size:,} bytes, which are no nodes of {width:,}")
        nodes = np.asarray(np.memmap(path, np.int32, "r", shape=(size // width, HEAD + dim)))
    file = _File(path, nodes, num_items)
    file.require_sound_nodes()
    file.require_trees()


@dataclass(frozen=True)
class _File:
    path: Path
    nodes: Ints
    """(num_nodes, HEAD + dim) mapped into memory, each with its vector's bits as whole numbers."""
    num_items: int

    @property
    def room(self) -> int:
        """Items that a node can list: in the place of its children and its vector."""
        return int(self.nodes.shape[1]) - 1

    def require_sound_nodes(self) -> None:
        """Whatever Annoy follows leads to a node before it or to an item, and what it multiplies is finite."""
        self._require_all(np.equal(self.nodes[-1:, 0], self.num_items), len(self.nodes) - 1, f"a root of {self.num_items:,} vectors")
        for start in range(0, len(self.nodes), BLOCK):
            block = self.nodes[start : start + BLOCK]
            below, places = block[:, 0], np.arange(start, start + len(block))
            items = places < self.num_items
            splits = ~items & (below > self.room)
            self._require_all(np.where(items, below == 1, below >= 0), start, "a number of items")
            finite = (np.abs(block[:, HEAD:].view(np.float32)) <= LARGEST).all(axis=1)
            finite &= splits | (np.abs(block[:, 1].view(np.float32)) <= LARGEST)
            self._require_all(finite | ~(items | splits), start, "finite numbers")
            children = ((block[:, 1:HEAD] >= 0) & (block[:, 1:HEAD] < places[:, None])).all(axis=1)
            self._require_all(children | ~splits, start, "children before it")
            listed = np.arange(self.room) < np.where(items | splits, 0, below)[:, None]
            known = (block[:, 1:] >= 0) & (block[:, 1:] < self.num_items)
            self._require_all(np.all(known | ~listed, axis=1), start, f"items below {self.num_items:,}")

    def require_trees(self) -> None:
        """No node but an item is met twice on the ways down from the roots, and no way is too long."""
        met = np.zeros(len(self.nodes), bool)
        level = np.unique(self._children(self._roots()), axis=0).ravel()  # a root may stand in the file twice
        for _ in range(DEEPEST):
            level = np.sort(level[level >= self.num_items])
            twice = met[level]
            twice[1:] |= level[1:] == level[:-1]
            self._require_all(~twice, level, "one way to it")
            met[level] = True
            level = self._children(level).ravel()
        self._require_all(np.zeros(len(level), bool), level, f"at most {DEEPEST:,} splits above it")

    def _roots(self) -> Ints:
        """The last nodes, as long as they are above as many items."""
        others = np.flatnonzero(self.nodes[:, 0] != self.num_items)
        return np.arange(others[-1] + 1 if len(others) else 0, len(self.nodes), dtype=np.int32)

    def _children(self, places: Ints) -> Ints:
        """(s, 2) of those that are splits."""
        return self.nodes[places[self.nodes[places, 0] > self.room], 1:HEAD]

    def _require_all(self, sound: np.ndarray, places: Ints | int, expected: str) -> None:
        """`places` (n,) of the nodes that `sound` (n,) is about, or the first of n neighbours."""
        if not sound.all():
            wrong = int(sound.argmin())
            place = wrong + places if isinstance(places, int) else int(places[wrong])
            found = ", ".join(map(str, self.nodes[place, :HEAD]))
            raise SegueError(f"{self.path}: expected {expected} at node {place:,}, found one that begins with {found}. {RETRAIN}")
