from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from features.domain import SegueError
from stages.retrieve.index.approximate import FILE, ApproximateIndex, lifted
from stages.retrieve.index.recipe import IndexRecipe
from tests import worlds
from tests.contracts import IndexContract, same


class TestApproximate(IndexContract):
    recipe = IndexRecipe(kind="annoy", n_trees=20, search_k=40_000)
    least_recall = 0.9


def test_more_nodes_find_more() -> None:
    contract = TestApproximate()
    asked, vectors = contract.asked(), contract.vectors()
    wanted = contract.query_vectors(asked)
    best = [set(row.tolist()) for row in IndexRecipe().build(vectors, np.arange(3_000, dtype=np.int32), 0).search(wanted, asked, 20).tracks]

    def recall(nodes: int) -> float:
        index = IndexRecipe(kind="annoy", n_trees=10, search_k=nodes).build(vectors, np.arange(3_000, dtype=np.int32), 0)
        found = index.search(wanted, asked, 20).tracks
        return float(np.mean([len(one & set(other.tolist())) / 20 for one, other in zip(best, found, strict=True)]))

    few, some, many = recall(30), recall(300), recall(3_000)
    assert few < some < many


def test_lifted_vectors_are_of_one_length_and_keep_the_order_of_inner_products() -> None:
    vectors = TestApproximate.vectors(200)
    on_sphere = lifted(vectors)
    lengths = np.linalg.norm(on_sphere, axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(vectors, axis=1).max(), rtol=1e-5)
    wanted = vectors[7]
    cosines = on_sphere @ np.append(wanted, 0) / lengths
    assert np.argsort(-cosines)[:20].tolist() == np.argsort(-(vectors @ wanted))[:20].tolist()


def test_the_same_seed_plants_the_same_trees(tmp_path: Path) -> None:
    contract = TestApproximate()
    files = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        contract.built(contract.vectors(500)).save(tmp_path / name)
        files.append((tmp_path / name / FILE).read_bytes())
    assert files[0] == files[1]


def test_an_index_that_was_saved_still_answers(tmp_path: Path) -> None:
    """Annoy maps the file it writes: when that went away, an answer would kill the process."""
    contract = TestApproximate()
    index, asked = contract.built(contract.vectors(500)), contract.asked(5)
    wanted = np.ones((5, 16), np.float32)
    before = index.search(wanted, asked, 10)
    index.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, "index.json", "index_tracks.npy"]
    (tmp_path / FILE).unlink()
    same(index.search(wanted, asked, 10), before)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_no_numbers_are_refused(bad: float) -> None:
    vectors = np.ones((3, 2), np.float32)
    vectors[1, 1] = bad
    with pytest.raises(SegueError, match="expected finite vectors, found NaN or infinity"):
        ApproximateIndex.build(vectors, np.arange(3, dtype=np.int32), 2, -1, 0)


def test_a_file_of_another_number_of_vectors_is_refused(tmp_path: Path) -> None:
    contract = TestApproximate()
    (tmp_path / "other").mkdir()
    contract.built(contract.vectors(50)).save(tmp_path)
    contract.built(contract.vectors(40)).save(tmp_path / "other")
    (tmp_path / "other" / FILE).replace(tmp_path / FILE)
    with pytest.raises(SegueError, match=r"index\.ann: expected a root of 50 vectors at node \d+, found one that begins with 40"):
        contract.recipe.open(tmp_path, contract.vectors(50))


def test_an_exclusion_asks_the_trees_for_more() -> None:
    vectors = TestApproximate.vectors(300)
    index = IndexRecipe(kind="annoy", n_trees=10, search_k=10_000).build(vectors, np.arange(300, dtype=np.int32), 0)
    found = index.search(vectors[:1], worlds.queries(worlds.query(*range(200))), 100)
    assert set(found.tracks[0].tolist()) == set(range(200, 300))
