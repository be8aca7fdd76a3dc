"""What is trained on, and what an interrupted training left, for `faults` to change.

Input: an empty folder. Output: a small dataset whose mutants are sealed anew, opened and trained on; or the storages of trainings that
were interrupted, whose files are damaged before the same training resumes. Knows not how a trial is judged.
"""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.parquet as pq

from benchmarks.mutants import BYTES, Answer, Mutation, Subject, mutate
from benchmarks.trials import tried
from engine.config import Config, ExamplesConfig, SourcesConfig
from engine.model import KnownPlaylists
from engine.train import plan
from engine.train.launch import STORAGE, train
from features.dataset import Dataset
from features.ingest import ingest
from features.manifest import MANIFEST_FILE, VOCABULARY_FILE, FileFacts, fingerprint_of
from features.progress import NO_FIGURES, silent
from features.synthetic import write_world
from features.vocabulary import Vocabulary
from stages.rank.lambdamart import LambdaMartRecipe
from stages.retrieve.als.model import AlsRecipe

SMALL = Config(
    alternatives={},
    sources=SourcesConfig(als=AlsRecipe(factors=8, iterations=3), only=("als", "artist", "title", "neighbours")),
    examples=ExamplesConfig(folds=1, share=0.25, check_share=0.3),
    ranker=LambdaMartRecipe(num_iterations=16, checkpoint_every=8),
)
SECONDS = 300
"""That making the world may take."""
BREAKS = (None, ("masked 1 als", 1 / 3), ("als", 2 / 3), ("ranker", 14 / 16))
"""When a training is interrupted: the phase and its share; None: when all that is left is to write the artifact."""


def _ingested(folder: Path) -> str:
    write_world(folder / "world", playlists=200, tracks=500, seed=1)
    ingest([folder / "world" / "mpd.zip"], folder / "dataset", folder / "world" / "audio_features.parquet", (), silent, 1)
    return str(folder / "dataset")


def _made(trial: Any) -> Any:
    """polars and torch have threads, so what is prepared is a trial as well."""
    if trial.ended != "result":
        raise RuntimeError(f"before any change: {trial}")
    return trial.said


# --- a dataset ---


def dataset(scratch: Path) -> Subject:
    """Its mutants are what another writer would have sealed; one that opens and is not sound ends in a traceback."""
    return Subject(Path(_made(tried(lambda: _ingested(scratch), SECONDS))), _change_and_seal, _train_on)


def _change_and_seal(folder: Path, draw: random.Random) -> Mutation:
    content = json.loads((folder / MANIFEST_FILE).read_bytes())
    if draw.random() < 0.15:
        return mutate(folder, [MANIFEST_FILE], draw)
    changed = mutate(folder, sorted(content["files"]), draw)
    path, facts = folder / changed.file, content["files"][changed.file]
    raw = path.read_bytes()
    facts.update(size=len(raw), sha256=hashlib.sha256(raw).hexdigest(), rows=_rows(path, facts["rows"]))
    content["num_interactions"] = sum(one["rows"] for name, one in content["files"].items() if "/" in name)
    content["fingerprint"] = fingerprint_of({name: FileFacts.model_validate(one) for name, one in content["files"].items()})
    if changed.file == VOCABULARY_FILE:
        content["vocabulary_hash"] = _hash_of(path, content["vocabulary_hash"])
    (folder / MANIFEST_FILE).unlink()
    (folder / MANIFEST_FILE).write_text(json.dumps(content))
    return Mutation(changed.file, changed.kind, plausible=True)


def _rows(path: Path, before: int) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except Exception:  # no table any more
        return before


def _hash_of(path: Path, before: str) -> str:
    try:
        return Vocabulary.open(path).hash
    except Exception:  # no vocabulary any more
        return before


def _train_on(folder: Path) -> Answer:
    """The dataset as it was opened, after it was trained on."""
    opened = Dataset.open(folder)
    _require_sound(folder)
    plan.train(opened, SMALL)
    held, digest = opened.interactions, hashlib.sha256()
    for array in (held.tracks, held.plays, held.offsets, held.followers):
        digest.update(array.tobytes())
    texts = [held.titles, opened.vocabulary.hash, opened.playlists.write_json(), opened.catalog.table.write_json()]
    digest.update(json.dumps(texts).encode())
    return digest.hexdigest()


def _require_sound(folder: Path) -> None:
    """What a dataset promises, told a second time, slowly."""
    tables = {path.stem: pq.read_table(path).to_pylist() for path in folder.glob("*.parquet")}
    ids = [row["track_id"] for row in tables["vocabulary"]]
    playlists = [row["playlist_id"] for row in tables["playlists"]]
    assert None not in (*ids, *playlists)
    assert len(set(ids)) == len(ids) == len(tables["catalog"])
    assert len(set(playlists)) == len(playlists)
    assert all(row["title"] is not None and row["is_challenge"] is not None for row in tables["playlists"])
    rows = [row for path in sorted((folder / "interactions").iterdir()) for row in pq.read_table(path).to_pylist()]
    assert all(0 <= row["track_index"] < len(ids) and 0 <= row["playlist_index"] < len(playlists) for row in rows)
    assert all(0 <= row["plays"] < np.inf for row in rows)
    places = [(row["playlist_index"], row["position"]) for row in rows]
    assert places == sorted(places)
    assert len({(row["playlist_index"], row["track_index"]) for row in rows}) == len(rows)


# --- a storage ---


def store(scratch: Path) -> Subject:
    """Several storages, interrupted at different times; every mutant must end in the artifact of an undisturbed training."""
    source = Path(_made(tried(lambda: _ingested(scratch), SECONDS)))
    for number, breaks_at in enumerate(BREAKS):
        place = scratch / "stores" / f"{number}"
        _made(tried(lambda place=place, at=breaks_at: _interrupt(source, place, at), SECONDS))
    return Subject(scratch / "stores", _damage, lambda folder: _resume(source, folder))


class _PowerCut(Exception):
    """Ends a training as if the machine had gone."""


def _interrupt(source: Path, place: Path, breaks_at: tuple[str, float] | None) -> None:
    def report(phase: str, done: float, figures: object = NO_FIGURES, /) -> None:
        if breaks_at and phase == breaks_at[0] and done >= breaks_at[1]:
            raise _PowerCut

    at_the_end = mock.patch.object(KnownPlaylists, "save", side_effect=None if breaks_at else _PowerCut)
    try:
        with at_the_end:
            train(source, place / "artifact", SMALL, workers=0, report=report, threads=1)
    except _PowerCut:
        return
    raise RuntimeError(f"expected a training that is interrupted at {breaks_at}, found one that ended")


def _damage(folder: Path, draw: random.Random) -> Mutation:
    """One file of one storage; no sum is made to fit. The other storages go."""
    chosen = draw.choice(sorted(folder.iterdir()))
    for other in {*folder.iterdir()} - {chosen}:
        other.rename(folder.parent / f"{other.name} unused")
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() and file.stat().st_size)
    one, another = draw.sample(names, 2)
    match draw.randrange(len(BYTES) + 2):
        case 0:
            (folder / one).unlink()
            return Mutation(one, "removed", plausible=False)
        case 1:
            (folder / one).rename(folder / "aside")
            (folder / another).rename(folder / one)
            (folder / "aside").rename(folder / another)
            return Mutation(one, f"changed places with {another}", plausible=False)
        case _:
            changed = mutate(folder, names, draw)
            return Mutation(changed.file, changed.kind, plausible=False)


def _resume(source: Path, folder: Path) -> Answer:
    """The sums of the artifact's files."""
    place = min(folder.iterdir())
    manifest = train(source, place / "artifact", SMALL, workers=0, report=silent, threads=1)
    if (place / STORAGE).exists():
        raise RuntimeError(f"expected no storage after the training, found {sorted((place / STORAGE).rglob('*'))}")
    return {name: entry.sha256 for name, entry in sorted(manifest.files.items())}
