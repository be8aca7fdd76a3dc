"""One of two processes that grow trees together: `python -m tests.stages.rank.worker RANK PORT PORT FOLDER STEPS`.

Goes on from what lies in FOLDER; is cut off after so many STEPS, and keeps what it reached there, or, for 0, writes its model.
"""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from stages.rank.examples import Examples
from stages.rank.lambdamart import LambdaMartRecipe
from stages.resume import Checkpoint
from tests.side_by_side import run_side_by_side
from tests.steps import CutOffError, Remembered

WORKERS = 2
RECIPE = LambdaMartRecipe(num_iterations=12, num_leaves=5, min_data_in_leaf=10, learning_rate=0.2, checkpoint_every=5)


def main(rank: int, ports: list[int], folder: Path, cut_off_after: int) -> None:
    kept = folder / f"{rank}.npz"
    machines = ",".join(f"127.0.0.1:{port}" for port in ports)
    network = {"machines": machines, "num_machines": WORKERS, "local_listen_port": ports[rank]}
    steps = Remembered(cut_off_after or None)
    if kept.exists():
        with np.load(kept) as arrays:
            steps.kept = Checkpoint(int(arrays["done"]), {}, {"text": arrays["text"]})
    try:
        text = RECIPE.fit(_examples(rank), 1, 1, network, steps=steps).text
        (folder / f"{rank}.txt").write_text(text)
    except CutOffError:
        assert steps.kept is not None
        np.savez(kept, done=steps.kept.done, **steps.kept.shared)


def _examples(seed: int) -> Examples:
    random = np.random.default_rng(seed)
    features = random.normal(size=(1_200, 3)).astype(np.float32)
    hits = features[:, 0] + random.normal(size=1_200) > 1
    return Examples(features, hits.astype(np.int32), np.full(30, 40, np.int32), ("good", "noise", "more"))


def run_together(folder: Path, cut_off_after: int = 0) -> None:
    """Starts both on ports of their own, and waits for them."""
    with ExitStack() as opened:
        listeners = [opened.enter_context(socket.socket()) for _ in range(WORKERS)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        ports = [str(listener.getsockname()[1]) for listener in listeners]
    arguments = [[str(rank), *ports, str(folder), str(cut_off_after)] for rank in range(WORKERS)]
    run_side_by_side("tests.stages.rank.worker", arguments, {})


if __name__ == "__main__":
    main(int(sys.argv[1]), [int(port) for port in sys.argv[2:4]], Path(sys.argv[4]), int(sys.argv[5]))
