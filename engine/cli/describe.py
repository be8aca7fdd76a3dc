"""What the terminal shows of an artifact: its description, and the report of an evaluation.

Input: a manifest, a report. Output: figures by heading; the report's tables on stdout. Knows no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.artifact import Manifest, Source
from engine.cli.console import show, show_rows
from engine.evaluate.report import category_table, table

Figure = float | int | str
MOST_FEATURES = 15
IMPORTANCE = "share of the ranker's gain"
CHOICE = ("index_reason", "index_tried")
"""What `stages.retrieve.index.selection` says of a choice, too long for the line of a source."""


def figures(manifest: Manifest) -> dict[str, dict[str, Figure]]:
    """Headings in the order they are read in."""
    made = manifest.metrics
    return {
        "artifact": {
            "version": manifest.version,
            "created": manifest.created.isoformat(),
            "git commit": manifest.git_commit,
            "seed": manifest.seed,
            "started from": made["from"]["version"] if "from" in made else "nothing",
            "tracks": manifest.num_tracks,
            "pair features": len(manifest.feature_names),
            "MiB on disk": sum(file.size for file in manifest.files.values()) / 2**20,
            "masked playlists checked": made.get("queries", 0),
            "recall ceiling there": made.get("recall_ceiling") or "not measured",
        },
        "sources": {name: _in_words(_of_source(source)) for name, source in manifest.sources.items()},
        "how each index was chosen": {name: found for name, source in manifest.sources.items() if (found := _of_index(source))},
        "on masked playlists the ranker learned nothing of": {name: _in_words(of) for name, of in made.get("check", {}).items()},
        "from masked sources to those that serve": {name: _in_words(of) for name, of in made.get("shift", {}).items()},
        "left out, for want of": dict(made.get("left_out", {})),
        "tried": {
            name: "; ".join(_in_words(_differences(one, tried[0])) for one in tried) for name, tried in made.get("tried", {}).items()
        },
        IMPORTANCE: importance(manifest),
        "libraries": dict(manifest.libraries),
    }


def show_report(result: Mapping[str, Any], manifest: Manifest) -> None:
    """What `segue evaluate` shows of a report of `engine.evaluate.report`."""
    show_rows("every list", *table(result))
    show_rows("the ranker by category", *category_table(result))
    show("what the ranker was given", {name: result[name]["value"] for name in ("recall_ceiling", "union_recall")})
    show(IMPORTANCE, importance(manifest))


def _differences(one: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from the first's, and the figure."""
    return {name: value for name, value in one.items() if name == "ndcg@500" or value != first[name]}


def importance(manifest: Manifest) -> dict[str, Figure]:
    """The features that the ranker's trees gain most by, with their share of all gain."""
    return dict(sorted(manifest.metrics.get("importance", {}).items(), key=lambda item: -item[1])[:MOST_FEATURES])


def _of_source(source: Source) -> dict[str, Any]:
    return {name: value for name, value in source.model_dump(exclude_none=True).items() if name not in CHOICE}


def _of_index(source: Source) -> str:
    """The reason, then every index that was tried; empty where none was chosen."""
    said = source.model_dump()
    tried = [_in_words(trial) for trial in said.get("index_tried", ())]
    return "; ".join([said["index_reason"], *tried]) if tried else ""


def _in_words(values: Mapping[str, Any]) -> str:
    return ", ".join(_figure(name, value) for name, value in values.items())


def _figure(name: str, value: Any) -> str:
    """`latency_ms` 3.2 is "latency 3.20 ms"."""
    if name.endswith("_ms"):
        return f"{name.removesuffix('_ms')} {value:.2f} ms"
    return f"{name.replace('_', ' ')} {value:.4f}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
