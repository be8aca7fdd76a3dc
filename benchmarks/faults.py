"""What a sealed artifact that somebody changed does to who opens it: an answer, one line, or worse.

Input: an artifact, and how many mutants of it. Output: how many ended how, each that ended badly with what it said, as JSON. Of every
mutant one file is changed (`mutants`), the manifest made to fit, and the model opened and asked, in a process of its own (`trials`).
Without an artifact it is the golden one of the tests, which has a source of every kind.

    segue bench faults --mutants 1000 --out faults.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import CHECKOUT
from benchmarks.mutants import Mutation, mutate
from benchmarks.trials import Trial, tried
from engine.answer.recommender import open_model
from engine.artifact import MANIFEST, open_artifact, version_of
from engine.cli.console import show_rows
from engine.model import VOCABULARY, open_second_stage, open_source, source_names
from engine.pipeline import Pipeline
from engine.provenance import provenance
from features.domain import Queries, Query
from features.vocabulary import Vocabulary
from stages.rank.lambdamart import FILE as RANKER_TEXT

Result = dict[str, Any]
GOLDEN = CHECKOUT / "tests" / "golden" / "artifact-3.zip"
SECONDS = 30
"""That opening a mutant and asking it may take."""
PLACES = (3, 10, 57)
"""Of the vocabulary: the tracks that are asked with."""
GOOD = ("the same answer", "another answer, plausible", "refused in one line")


def ask(path: Path, ids: list[str]) -> list[Any]:
    """What the model at `path` answers: everything a request can ask for once."""
    model = open_model(path)
    answers: list[Any] = [
        model.recommend(ids, title="rock party", k=30, explain=True),
        model.recommend(ids[:1], k=100),
        model.recommend(title="summer", k=10),
        model.recommend(k=10),
        model.similar(ids[0], k=20),
        model.search("a", limit=5),
    ]
    return [[(row.track_id, row.title, row.artist, getattr(row, "score", None), _why(row)) for row in rows] for rows in answers]


def _why(row: Any) -> Any:
    return dict(row.why.features) if getattr(row, "why", None) else None


def change(folder: Path, draw: random.Random) -> Mutation:
    """One file of the artifact in `folder` changed, and its manifest made to fit; or the manifest itself, sealed anew."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    if draw.random() < 0.15:
        return _change_manifest(folder, draw)
    mutation = mutate(folder, sorted(manifest["files"]), draw)
    path = folder / mutation.file
    if path.name == RANKER_TEXT and draw.random() < 0.8:
        _announce_sizes(path)
    content = path.read_bytes()
    manifest["files"][mutation.file] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    if mutation.file == VOCABULARY:
        manifest["vocabulary_hash"] = _hash_of(path) or manifest["vocabulary_hash"]
    manifest["version"] = version_of(manifest)
    _replace(folder / MANIFEST, json.dumps(manifest, indent=1))
    return mutation


def _change_manifest(folder: Path, draw: random.Random) -> Mutation:
    mutation = mutate(folder, [MANIFEST], draw)
    try:
        content = json.loads((folder / MANIFEST).read_text())
        _replace(folder / MANIFEST, json.dumps(content | {"version": version_of(content)}))
    except (ValueError, RecursionError, TypeError):
        pass  # nothing that could be sealed: refused as it is
    return mutation


def _replace(path: Path, text: str) -> None:
    """A file of its own, whatever links the old one has."""
    path.unlink()
    path.write_text(text, encoding="utf-8")


def _announce_sizes(path: Path) -> None:
    """As LightGBM does: how long the text of each tree is."""
    text = path.read_text(encoding="utf-8", errors="replace")
    head, *trees = text.partition("\nend of trees")[0].split("\nTree=")
    sizes = " ".join(str(len(f"Tree={tree}\n".encode())) for tree in trees)
    lines = [f"tree_sizes={sizes}" if line.startswith("tree_sizes=") else line for line in head.split("\n")]
    path.write_text("\n".join(lines) + text[len(head) :], encoding="utf-8")


def _hash_of(path: Path) -> str | None:
    try:
        return Vocabulary.open(path).hash
    except Exception:  # whatever it is now, it is no vocabulary
        return None


def measure(artifact: Path, mutants: int, seed: int, seconds: float | None = None) -> Result:
    """How `mutants` of them end, or as many as `seconds` are enough for."""
    ids = _ids(artifact)
    warm(artifact, ids)
    undisturbed = tried(lambda: ask(artifact, ids), SECONDS)
    if undisturbed.ended != "result":
        raise RuntimeError(f"the artifact itself: {undisturbed}")
    ends, bad, started = Counter[str](), [], time.monotonic()
    for number in range(mutants):
        if seconds is not None and time.monotonic() - started > seconds:
            break
        mutation, trial = one(artifact, ids, f"{seed}/{number}")
        end = _end(mutation, trial, undisturbed)
        ends[end] += 1
        if end not in GOOD:
            bad.append({"mutant": f"{seed}/{number}", "change": str(mutation), "end": end, "said": str(trial.said)[-1500:]})
    return {"mutants": ends.total(), "ends": dict(ends.most_common()), "bad": bad, "seconds": round(time.monotonic() - started, 1)}


def one(artifact: Path, ids: list[str], seed: str) -> tuple[Mutation | None, Trial]:
    """The mutant of that seed, and how asking it ended."""
    with tempfile.TemporaryDirectory(dir=artifact.parent, prefix="mutant-") as scratch:
        folder = Path(scratch, "artifact")
        _link(artifact, folder)
        made = tried(lambda: vars(change(folder, random.Random(seed))), SECONDS)  # polars has threads, which no process forked later has
        if made.ended != "result":
            return None, made
        return Mutation(**made.said), tried(lambda: ask(folder, ids), SECONDS)


def _link(source: Path, target: Path) -> None:
    """A copy of the folder that shares the files until one is replaced."""
    for file in source.rglob("*"):
        if file.is_file():
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            os.link(file, target / file.relative_to(source))


def _end(mutation: Mutation | None, trial: Trial, undisturbed: Trial) -> str:
    if mutation is None:
        return "the mutant could not be made"
    if trial.ended == "result":
        if trial.said == undisturbed.said:
            return GOOD[0]
        return GOOD[1] if mutation.plausible else "another answer, unsaid"
    return GOOD[2] if trial.ended == "refused" else trial.ended


def _ids(artifact: Path) -> list[str]:
    found = tried(lambda: [str(Vocabulary.open(artifact / VOCABULARY).track_ids[place]) for place in PLACES], SECONDS)
    return list(found.said)


@contextmanager
def _unpacked(artifact: Path | None) -> Iterator[Path]:
    """A folder of our own, where mutants can be made of links."""
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        if artifact is None:
            zipfile.ZipFile(GOLDEN).extractall(Path(scratch, "artifact"))
            yield Path(scratch, "artifact")
        else:
            open_artifact(artifact, verify="size")
            yield artifact.resolve()


def warm(artifact: Path, ids: list[str]) -> None:
    """Compiles what the trials need, and has it in this process, without a thread of polars'."""
    tried(lambda: ask(artifact, ids), 300)
    opened = open_artifact(artifact)
    sources = {name: open_source(opened, name) for name in source_names(opened)}
    query = Query(np.array(PLACES, np.int32), "rock party")
    Pipeline(sources, open_second_stage(opened)).recommend(Queries.of([query, query]), 30)


def main() -> None:
    parser = argparse.ArgumentParser("segue bench faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, nargs="?", help="default: the golden artifact of the tests")
    parser.add_argument("--mutants", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, help="stop after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with _unpacked(chosen.artifact) as artifact:
        result = {"provenance": provenance(), **measure(artifact, chosen.mutants, chosen.seed, chosen.seconds)}
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    ends = [[end, count] for end, count in result["ends"].items()]
    show_rows(f"{result['mutants']:,} mutants in {result['seconds']} s", ["end", "mutants"], ends)
    for bad in result["bad"]:
        print(json.dumps(bad))
    sys.exit(1 if result["bad"] else 0)


if __name__ == "__main__":
    main()
