"""Whatever stands in an Annoy file, Annoy is only asked to follow what ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features.domain import SegueError
from stages.retrieve.index.annoy_file import DEEPEST, HEAD, require_forest
from stages.retrieve.index.approximate import FILE, ApproximateIndex

ITEMS, DIM = 600, 9
"""Of the forest; vectors are lifted by a coordinate."""
Change = Callable[[np.ndarray], None]
ROOM = HEAD + DIM - 1
"""Items that a node can list."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """(num_nodes, HEAD + DIM) as Annoy wrote them."""
    folder, vectors = tmp_path_factory.mktemp("forest"), np.random.default_rng(0).normal(size=(ITEMS, DIM - 1)).astype(np.float32)
    ApproximateIndex.build(vectors, np.arange(ITEMS, dtype=np.int32), 4, -1, 0).save(folder)
    return np.fromfile(folder / FILE, np.int32).reshape(-1, HEAD + DIM)


def require(path: Path, nodes: np.ndarray) -> None:
    nodes.astype(np.int32).tofile(path)
    require_forest(path, DIM, ITEMS)


def put(place: int, column: int, value: int) -> Change:
    """`place` counts the splits, or the lists of items from behind."""

    def change(nodes: np.ndarray) -> None:
        inner = np.arange(len(nodes)) >= ITEMS
        splits, lists = (np.flatnonzero(inner & which) for which in (nodes[:, 0] > ROOM, nodes[:, 0] <= ROOM))
        nodes[splits[place] if place >= 0 else lists[place], column] = value

    return change


def in_item(column: int, value: int) -> Change:
    def change(nodes: np.ndarray) -> None:
        nodes[7, column] = value

    return change


def below_itself(nodes: np.ndarray) -> None:
    split = np.flatnonzero((np.arange(len(nodes)) >= ITEMS) & (nodes[:, 0] > ROOM))[3]
    nodes[split, 1] = split


def twice_the_same(nodes: np.ndarray) -> None:
    splits = np.flatnonzero((np.arange(len(nodes)) >= ITEMS) & (nodes[:, 0] > ROOM))
    nodes[splits[-1], 1] = nodes[splits[-1], 2]


NAN = int(np.float32("nan").view(np.int32))


@pytest.mark.parametrize("trees", [1, 3])
@pytest.mark.parametrize("items", [0, 1, 2, 11, 12, 13, 400])
def test_what_annoy_wrote_is_admitted(tmp_path: Path, items: int, trees: int) -> None:
    vectors = np.random.default_rng(1).normal(size=(items, DIM - 1)).astype(np.float32)
    ApproximateIndex.build(vectors, np.arange(items, dtype=np.int32), trees, -1, 0).save(tmp_path)
    require_forest(tmp_path / FILE, DIM, items)


def test_vectors_that_are_all_alike_are_admitted(tmp_path: Path) -> None:
    ApproximateIndex.build(np.ones((ITEMS, DIM - 1), np.float32), np.arange(ITEMS, dtype=np.int32), 3, -1, 0).save(tmp_path)
    require_forest(tmp_path / FILE, DIM, ITEMS)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (put(2, 2, 2**30), "children before it"),
        (put(2, 1, -1), "children before it"),
        (below_itself, "children before it"),
        (twice_the_same, "one way to it"),
        (put(2, 4, NAN), "finite numbers"),
        (put(-2, 1, ITEMS), "items below 600"),
        (put(-2, 2, -1), "items below 600"),
        (put(-2, 0, -1), "a number of items"),
        (in_item(0, 2), "a number of items"),
        (in_item(1, NAN), "finite numbers"),
        (in_item(5, NAN), "finite numbers"),
    ],
)
def test_a_node_that_leads_astray_is_refused(tmp_path: Path, nodes: np.ndarray, change: Change, expected: str) -> None:
    require(tmp_path / FILE, nodes)
    changed = nodes.copy()
    change(changed)
    with pytest.raises(SegueError, match=rf"index\.ann: expected {expected} at node [\d,]+, found one that begins with "):
        require(tmp_path / FILE, changed)


def test_a_chain_of_splits_is_refused(tmp_path: Path, nodes: np.ndarray) -> None:
    chain = np.repeat(nodes[-1:], DEEPEST + 2, axis=0)
    chain[:, HEAD:] = 0
    chain[:, 0] = ITEMS - 1
    chain[:, 1], chain[:, 2] = np.arange(ITEMS - 1, ITEMS + DEEPEST + 1), 0
    chain[-1, 0] = ITEMS
    with pytest.raises(SegueError, match=r"expected at most 1,000 splits above it at node "):
        require(tmp_path / FILE, np.concatenate([nodes[:ITEMS], chain]))


@pytest.mark.parametrize("content", [b"", b"x" * 47, b"x" * 50])
def test_a_file_of_no_whole_nodes_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(SegueError, match=r"index\.ann: expected an Annoy file of 600 vectors, found \d+ bytes, which are no nodes of 48"):
        require_forest(tmp_path / FILE, DIM, ITEMS)
