"""What a sealed artifact that somebody changed does to who opens it: an answer, one line, or worse. Datasets and storages too.

Input: an artifact, and how many mutants of it. Output: how many ended how, each that ended badly with what it said, as JSON. Of every
mutant one file is changed (`mutants`), the manifest made to fit, and the model opened and asked, in a process of its own (`trials`).
Without an artifact it is the golden one of the tests, which has a source of every kind. With `--of dataset` a dataset is changed and
trained on, with `--of store` the storage of an interrupted training is damaged and the training resumed (`training_faults`).

    segue bench faults --mutants 1000 --out faults.json
    segue bench faults --of store --mutants 100
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import CHECKOUT
from benchmarks.mutants import Mutation, Subject, mutate
from benchmarks.training_faults import dataset, store
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


def measure(subject: Subject, mutants: int, seed: int, seconds: float | None = None) -> Result:
    """How `mutants` of them end, or as many as `seconds` are enough for."""
    with _copy(subject.folder) as folder:
        tried(lambda: subject.ask(folder), 300)  # compiles what the trials need
    subject.warm()
    with _copy(subject.folder) as folder:
        undisturbed = tried(lambda: subject.ask(folder), SECONDS)
    if undisturbed.ended != "result":
        raise RuntimeError(f"without a change: {undisturbed}")
    ends, bad, started = Counter[str](), [], time.monotonic()
    for number in range(mutants):
        if seconds is not None and time.monotonic() - started > seconds:
            break
        mutation, trial = one(subject, f"{seed}/{number}")
        end = _end(mutation, trial, undisturbed)
        ends[end] += 1
        if end not in GOOD:
            bad.append({"mutant": f"{seed}/{number}", "change": str(mutation), "end": end, "said": str(trial.said)[-1500:]})
    return {"mutants": ends.total(), "ends": dict(ends.most_common()), "bad": bad, "seconds": round(time.monotonic() - started, 1)}


def one(subject: Subject, seed: str) -> tuple[Mutation | None, Trial]:
    """The mutant of that seed, and how asking it ended."""
    with _copy(subject.folder) as folder:
        draw = random.Random(seed)
        made = tried(lambda: vars(subject.change(folder, draw)), SECONDS)  # polars has threads, which no process forked later has
        if made.ended != "result":
            return None, made
        return Mutation(**made.said), tried(lambda: subject.ask(folder), SECONDS)


@contextmanager
def _copy(source: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=source.parent, prefix="mutant-") as scratch:
        _link(source, Path(scratch, "mutant"))
        yield Path(scratch, "mutant")


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


def artifact_to_open(artifact: Path | None, scratch: Path) -> Subject:
    """The one that is given, or the golden one of the tests."""
    if artifact is None:
        zipfile.ZipFile(GOLDEN).extractall(scratch / "artifact")
    else:
        open_artifact(artifact, verify="size")
    folder = artifact.resolve() if artifact else scratch / "artifact"
    ids = _ids(folder)
    return Subject(folder, change, lambda mutant: ask(mutant, ids), lambda: _warm(folder))


def _warm(artifact: Path) -> None:
    opened = open_artifact(artifact)
    sources = {name: open_source(opened, name) for name in source_names(opened)}
    query = Query(np.array(PLACES, np.int32), "rock party")
    Pipeline(sources, open_second_stage(opened)).recommend(Queries.of([query, query]), 30)


def main() -> None:
    parser = argparse.ArgumentParser("segue bench faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, nargs="?", help="default: the golden artifact of the tests")
    parser.add_argument("--of", choices=("artifact", "dataset", "store"), default="artifact", help="what is changed")
    parser.add_argument("--mutants", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, help="stop after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        of = {"artifact": partial(artifact_to_open, chosen.artifact), "dataset": dataset, "store": store}[chosen.of]
        result = {"provenance": provenance(), **measure(of(Path(scratch)), chosen.mutants, chosen.seed, chosen.seconds)}
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    ends = [[end, count] for end, count in result["ends"].items()]
    show_rows(f"{result['mutants']:,} mutants of the {chosen.of} in {result['seconds']} s", ["end", "mutants"], ends)
    for bad in result["bad"]:
        print(json.dumps(bad))
    sys.exit(1 if result["bad"] else 0)


if __name__ == "__main__":
    main()
