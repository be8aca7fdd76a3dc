"""One of several processes that fit together: `python -m tests.stages.worker RANK WORKERS RENDEZVOUS OUT`.

Writes what it found into OUT, an .npz of arrays. The same `results()` in a plain process is what they must agree with.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.distributed as dist

from stages import parallel
from stages.resume import TrainingContext
from stages.retrieve.als.model import AlsRecipe
from stages.retrieve.autoencoder.model import AutoencoderRecipe
from stages.retrieve.content.recipes import ContractiveRecipe, TransformerRecipe
from stages.retrieve.factorization.model import FactorizationRecipe
from stages.retrieve.index.recipe import IndexRecipe
from stages.retrieve.recipe import Recipe
from tests import worlds
from tests.steps import CutOffError, Remembered

RECIPES: dict[str, Recipe] = {
    "als": AlsRecipe(factors=6, iterations=5, alpha=10),
    # 25 playlists in batches of 8: the last batch is one playlist, less than there are workers
    "autoencoder": AutoencoderRecipe(dim=6, epochs=4, batch_size=8, negatives=20, learning_rate=0.01),
    "contractive": ContractiveRecipe(dim=4, hidden_layers=2, epochs=4, batch_size=41, learning_rate=0.01),
    # 83 tracks in batches of 41: the last batch is one track
    "transformer": TransformerRecipe(dim=8, layers=1, heads=2, epochs=4, tracks_per_epoch=83, batch_size=41, learning_rate=0.01),
    "als by annoy": AlsRecipe(factors=6, iterations=5, alpha=10, index=IndexRecipe(at=3)),
    "regular": AutoencoderRecipe(dim=6, epochs=4, batch_size=8, negatives=20, learning_rate=0.01, variant="regular", input_dropout=0.5),
    "hybrid": AutoencoderRecipe(dim=6, epochs=4, batch_size=8, negatives=20, learning_rate=0.01, content=True),
    "factorization": FactorizationRecipe(factors=6, epochs=4, batch_size=8, negatives=20, learning_rate=0.01),
}
IN_EPOCHS = ("autoencoder", "contractive", "transformer", "regular", "hybrid", "factorization")
FEW_ROWS = (0, 1, 2, 5)


def small_board() -> worlds.Checkerboard:
    return worlds.checkerboard(num_playlists=25, num_held=79, num_cold=4)


def results() -> dict[str, np.ndarray]:
    """Each recipe's losses, track vectors and answers, by name."""
    board = small_board()
    found = {}
    for name, recipe in RECIPES.items():
        losses: list[float] = []
        source = recipe.fit(board.visible, lambda phase, done, figures, into=losses: into.append(figures["loss"]))
        found[f"{name} losses"] = np.array(losses)
        found[f"{name} vectors"] = source.track_vectors
        with TemporaryDirectory() as folder:
            found[f"{name} index"] = np.array([source.save(Path(folder))["index"]])
        found[f"{name} answers"] = source.retrieve(board.questions(), 1).tracks
    return found


def resumed() -> dict[str, np.ndarray]:
    """The track vectors of fits that all workers were cut off from after two epochs, and started again."""
    found = {}
    for name in IN_EPOCHS:
        steps = Remembered(cut_off_after=2)
        visible = replace(small_board().visible, past=TrainingContext(steps))
        with suppress(CutOffError):
            RECIPES[name].fit(visible)
        found[f"{name} resumed"] = RECIPES[name].fit(visible).track_vectors
    return found


def collectives() -> dict[str, np.ndarray]:
    """What every worker must be told, from what each knows alone."""
    rank, found = parallel.worker_rank(), {}
    for rows in FEW_ROWS:
        start, stop = parallel.shard(rows)
        shared = torch.full((rows, 2), -1.0)
        shared[start:stop] = torch.arange(start, stop, dtype=torch.float32)[:, None]
        found[f"rows {rows}"] = parallel.all_gather_rows(shared).numpy()
    found["sum"] = parallel.all_reduce_sum(torch.tensor([1.0, float(rank)])).numpy()
    found["union"] = parallel.all_gather_unique(torch.arange(rank, 3 + 2 * rank)).numpy()
    found["union of few"] = parallel.all_gather_unique(torch.full((rank,), 7)).numpy()  # the first has none
    found["union of none"] = parallel.all_gather_unique(torch.empty(0, dtype=torch.int64)).numpy()
    found["workers"] = np.array([parallel.num_workers()])
    return found


def main(rank: int, workers: int, rendezvous: str, out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=workers)
    np.savez(out, **results(), **resumed(), **collectives())
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
