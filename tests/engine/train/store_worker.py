"""One of several processes with one store: `python -m tests.engine.train.store_worker RANK WORKERS RENDEZVOUS STORAGE OUT`.

Asks for two phases, and writes into OUT what they are, which of them it computed, and what it said.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch.distributed as dist

from engine.train.phase_store import Folder
from engine.train.run_store import RunStore
from engine.train.storage import Local
from stages.resume import CheckpointStore


class Text:
    """A phase whose result is a text."""

    def save(self, result: str, folder: Path) -> None:
        (folder / "text").write_text(result)

    def open(self, folder: Folder) -> str:
        return (folder() / "text").read_text()


def main(rank: int, workers: int, rendezvous: str, storage: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=workers)
    computed, said = list[str](), list[str]()
    store = RunStore(Local(Path(storage)), said.append)

    def once(phase: str) -> str:
        def compute(steps: CheckpointStore) -> str:
            computed.append(phase)
            return f"by {rank}"

        return store.once(phase, compute, Text())

    texts = [once("whole"), once("damaged")]
    np.savez(out, texts=np.array(texts), computed=np.array(computed), said=np.array(said))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
