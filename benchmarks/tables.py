"""Writes the result tables of benchmarks/README.md, and the short one of README.md, from the raw results.

    python benchmarks/tables.py          rewrite both pages
    python benchmarks/tables.py --check  exit 1 if a page differs from the results

Input: benchmarks/results/*.json. Output: the text between `<!-- NAME -->` and `<!-- /NAME -->` in each page. No figure of
these sections is typed by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"

Result = Mapping[str, Any]


def quality(result: Result) -> str:
    """The report of `segue evaluate --json`: every list, then the ceiling."""
    lists = sorted(result["lists"].items(), key=lambda item: item[1]["ndcg@500"]["value"])
    rows = [[name, *(f"{of[metric]['value']:.4f}" for metric in METRICS), f"{of['clicks']['value']:.2f}"] for name, of in lists]
    ceiling = result["recall_ceiling"]["value"]
    interval = result["lists"]["ranker"]["ndcg@500"]
    return "\n".join(
        [
            _table(["list", "R-precision", "nDCG@500", "recall@500", "MAP@10", "clicks"], rows),
            "",
            f"{result['queries']} playlists; recall ceiling of what the ranker is given: {ceiling:.4f}; "
            f"the ranker's nDCG lies between {interval['low']:.4f} and {interval['high']:.4f} (95 % bootstrap). {_made_with(result)}",
        ]
    )


def serving(result: Result) -> str:
    """The result of `benchmarks/serving.py`: the requests, the systems side by side, and at fixed rates."""
    requests, systems = result["requests"], result["systems"]
    columns = [
        "system",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        *(f"requests/s, {clients} clients" for clients in MANY),
        "CPU ms a request",
        "memory MiB",
    ]
    rates = [[name, f"{run['rate']:.0f}", *_percentiles(run)] for name, system in systems.items() for run in system["rates"].values()]
    notes = [
        f"{requests['playlists']} playlists in turn, k = {requests['k']}, {result['seconds']['measured']:g} s each. "
        f"Milliseconds are those of one client, CPU (without the client's) and memory (shared pages once) at {MANY[0]} clients.",
        *(f"{name} is left out: {reason}." for name, reason in result["left_out"].items()),
        _troubles(systems),
        _noise(systems),
    ]
    return "\n".join(
        [
            _table(columns, [[name, *_in_short(system)] for name, system in systems.items()]),
            "",
            *notes,
            "",
            _table(["target", "expected", "found", "reached"], [_verdict(target) for target in result["targets"]], words=True),
            "",
            "At fixed rates; times count from the moment a request was due:",
            "",
            _table(["system", "requests/s", "p50 ms", "p95 ms", "p99 ms"], rates),
            "",
            *(_soak(name, system["soak"]) for name, system in systems.items() if "soak" in system),
            _made_with(result),
        ]
    )


MANY = ("16", "64")


def _in_short(system: Result) -> list[str]:
    """What was not measured is an empty cell."""
    runs = system["clients"]
    alone = _percentiles(runs["1"]) if "1" in runs else [""] * 3
    rates = [f"{runs[clients]['requests_per_second']:.0f}" if clients in runs else "" for clients in MANY]
    many = runs.get(MANY[0])
    return [*alone, *rates, *([f"{many['cpu_ms_per_request']:.1f}", f"{many['memory_mib']['pss']:.0f}"] if many else [""] * 2)]


def _percentiles(run: Result) -> list[str]:
    return [f"{run['milliseconds'][name]:.1f}" for name in ("p50", "p95", "p99")]


def _runs(systems: Result) -> list[Result]:
    return [run for system in systems.values() for kind in ("clients", "rates") for run in system[kind].values()]


def _troubles(systems: Result) -> str:
    requests, errors, degraded = (sum(run[name] for run in _runs(systems)) for name in ("requests", "errors", "degraded"))
    return f"Of {requests:,} requests {errors} failed and {degraded} were degraded."


def _noise(systems: Result) -> str:
    """How busy the machine was with anything else: figures of a busy machine are worth little."""
    elsewhere = [run["cores_elsewhere"] for run in _runs(systems)]
    return f"Other programs kept {sum(elsewhere) / len(elsewhere):.1f} cores busy on average, {max(elsewhere):.1f} at most."


def _verdict(target: Result) -> list[str]:
    found = "not measured" if target["found"] is None else f"{target['found']:.4g}"
    return [target["target"], target["expected"], found, {True: "yes", False: "no", None: ""}[target["reached"]]]


def _soak(name: str, soak: Result) -> str:
    parts = [f"{part} {of['first']:.0f} to {of['last']:.0f}" for part, of in soak["rss_mib_of"].items()]
    return f"Resident memory over {soak['minutes']:g} minutes at {soak['rate']:g} requests/s, {name}, in MiB: {', '.join(parts)}."


def reference(result: Result) -> str:
    """The result of `benchmarks/reference.py`: per published figure ours beside theirs, and whether their order repeats."""
    rows = [
        [name, figure, _beside(ours, system["published"][figure]), _order(system["turned"].get(figure))]
        for name, system in result["systems"].items()
        for figure, ours in system["figures"].items()
        if figure in system["published"]
    ]
    made: dict[str, list[str]] = {}
    for name, system in result["systems"].items():
        made.setdefault(_made_with(system), []).append(name)
    notes = [f"{', '.join(names)}: {provenance}" for provenance, names in made.items()]
    return "\n".join([_table(["system", "figure", "here (published)", "order repeats"], rows, words=True), "", *notes])


def _beside(ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    return ", ".join(f"{of} {value:.4g} ({theirs[of]:.4g})" if of in theirs else f"{of} {value:.4g}" for of, value in ours.items())


def _order(turned: list[str] | None) -> str:
    return "" if turned is None else f"not {', '.join(turned)}" if turned else "yes"


def training(result: Result) -> str:
    """The result of `benchmarks/training.py`: beside implicit, by workers, and how it grows."""
    columns = ["factors", "s a sweep", "implicit", "times as fast", "loss", "implicit's", "sweeps to its loss", "MiB", "implicit's"]
    rows = [
        [
            str(of["factors"]),
            *(f"{system['median_seconds']:.3f}" for system in (of["ours"], of["implicit"])),
            f"{of['ratio']['median']:.2f} ({of['ratio']['min']:.2f} to {of['ratio']['max']:.2f})",
            *(f"{system['losses'][-1]:,.0f}" for system in (of["ours"], of["implicit"])),
            f"{of['sweeps_to_implicits_loss']} of {of['sweeps']}",
            *(f"{system['peak_mib']:.0f}" for system in (of["ours"], of["implicit"])),
        ]
        for of in result["als"]
    ]
    on, autoencoder, workers = result["dataset"], result["autoencoder"], result["workers"]
    by_workers = [
        f"{count}: {of['median_seconds']:.3f} s a sweep, loss {of['loss']:,.0f}, {' and '.join(f'{mib:.0f}' for mib in of['peak_mib'])} MiB"
        for count, of in workers["of"].items()
    ]
    seconds = sum(autoencoder["seconds"]) / len(autoencoder["seconds"])
    growing = [
        [f"{of['kind']}, {of['dim']}", *(f"{row['seconds']:.2f} / {row['fit_mib']:.0f}" for row in of["rows"])]
        + [f"{of['exponents'][name]:.2f}" for name in ("seconds", "memory")]
        for of in result["growth"]
    ]
    entries = [f"{row['entries'] / 1e6:.2f} M" for row in result["growth"][0]["rows"]]
    return "\n".join(
        [
            _table(columns, rows),
            "",
            f"{_size(on['playlists'], on['tracks'], on['entries'])}, {result['threads']} threads, medians over all sweeps but the first; "
            "memory is the process's, libraries and data included. "
            f"An epoch of the autoencoder ({autoencoder['dim']} dimensions): {seconds:.1f} s. Workers of one thread each, 64 factors: "
            f"{'; '.join(by_workers)}. Their losses differ by {workers['losses_differ_by']:.0e}.",
            "",
            "A synthetic world as it grows, seconds a sweep or an epoch / MiB that the fit adds to libraries and data, "
            "and the exponents b of entries^b:",
            "",
            _table(["source", *entries, "time", "memory"], growing),
            "",
            _made_with(result),
        ]
    )


def scale(result: Result) -> str:
    """The result of `benchmarks/scale.py`: what every phase cost, what a query costs, and the targets."""
    world, phases = result["world"], result["phases"]
    costs = [[name, f"{of['seconds']:.0f}", f"{of['cpu_seconds']:.0f}", f"{of['peak_mib'] / 1024:.1f}"] for name, of in phases.items()]
    learned, searched = phases["train"], phases["search"]
    steps = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in learned["phases"].items() if seconds >= 1)
    sweeps = learned["sweep_seconds"]
    indexes = [[_index(row), f"{row['build_s']:.0f}", f"{row['recall']:.3f}", f"{row['ms a query of 1']:.1f}"] for row in searched["rows"]]
    return "\n".join(
        [
            _table(["phase", "seconds", "CPU seconds", "peak GiB"], costs),
            "",
            f"{_size(world['num_playlists'], world['num_tracks'], world['num_interactions'])}. A sweep of ALS (64 factors): "
            f"{min(sweeps):.1f} to {max(sweeps):.1f} s. Of the training, up to each one's last report "
            f"(what a source's index costs stands with the next): {steps}.",
            "",
            f"The best 500 of {searched['tracks']:,} tracks for a lone query, one thread; both stages together take "
            f"{searched['both_stages_ms']['p50']:.0f} ms (p50):",
            "",
            _table(["index", "build s", "recall", "p50 ms"], indexes),
            "",
            _table(["target", "expected", "found", "reached"], [_verdict(target) for target in result["targets"]], words=True),
            "",
            _made_with(result),
        ]
    )


def _size(playlists: int, tracks: int, entries: int) -> str:
    return f"{playlists:,} playlists, {tracks:,} tracks, {entries:,} entries"


def _index(row: Result) -> str:
    return f"{row['index']}, {row['search_nodes']:,} nodes" if "search_nodes" in row else str(row["index"])


METRICS = ("r_precision", "ndcg@500", "recall@500", "map@10")
SHORT_LISTS = ("popularity", "neighbours", "als", "fusion", "ranker")
"""The rows of README.md's table: the baseline, the best single retrievers, both ways to combine all of them."""
SHORT_METRICS = ("r_precision", "ndcg@500")


def in_short(quality: Result, serving: Result, scale: Result) -> str:
    """For README.md: one table of quality, a line each for latency and scale, and a line for each target that is not reached."""
    rows = [
        [
            name,
            *(f"{quality['lists'][name][metric]['value']:.3f}" for metric in SHORT_METRICS),
            f"{quality['lists'][name]['clicks']['value']:.1f}",
        ]
        for name in SHORT_LISTS
    ]
    return "\n".join(
        [
            _table(["list", "R-precision", "nDCG@500", "clicks"], rows),
            "",
            f"- Latency: p50 with 1 client and requests/s with {MANY[0]}: {_speed(serving, 'composed')}; {_speed(serving, 'fused')} "
            f"({_link('serving')}).",
            f"- Scale: {_whole_job(scale)} ({_link('scale')}).",
            "",
            f"Targets that are not reached ({_link('serving')}):",
            "",
            *(_missed(target) for target in serving["targets"] if target["reached"] is False),
        ]
    )


def _speed(serving: Result, name: str) -> str:
    alone, many = (serving["systems"][name]["clients"][clients] for clients in ("1", MANY[0]))
    return f"{name} {alone['milliseconds']['p50']:.1f} ms, {many['requests_per_second']:.0f}"


def _whole_job(scale: Result) -> str:
    world, phases = scale["world"], scale["phases"].values()
    minutes, gib = sum(of["seconds"] for of in phases) / 60, max(of["peak_mib"] for of in phases) / 1024
    return (
        f"{world['num_playlists']:,} synthetic playlists, {world['num_tracks']:,} tracks, trained and searched "
        f"in {minutes:.0f} minutes and {gib:.1f} GiB on {scale['circumstances']['machine']['cores']} cores"
    )


def _missed(target: Result) -> str:
    name, expected, found, _ = _verdict(target)
    return f"- {name}: {found}, target {expected}"


def _link(section: str) -> str:
    return f"[table](benchmarks/README.md#{section})"


Page = Mapping[str, tuple[Callable[..., str], tuple[str, ...]]]
"""By section, what renders it, from which raw results."""
PAGES: Mapping[Path, Page] = {
    ROOT / "README.md": {"results": (in_short, ("quality", "serving", "scale"))},
    ROOT / "benchmarks" / "README.md": {
        "quality": (quality, ("quality",)),
        "serving": (serving, ("serving",)),
        "training": (training, ("training",)),
        "scale": (scale, ("scale",)),
        "reference": (reference, ("reference",)),
    },
}


def _table(columns: list[str], rows: list[list[str]], words: bool = False) -> str:
    lines = [columns, ["---", *("---" if words else "---:" for _ in columns[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _made_with(result: Result) -> str:
    made = result["circumstances"]
    machine, libraries = made["machine"], made["libraries"]
    return (
        f"Measured {made['measured'][:10]} at commit {made['git_commit'][:12]} "
        f"on {machine['cores']} cores, {machine['memory_gib']:.0f} GiB, "
        f"Python {libraries['python']}, ray {libraries['ray']}, torch {libraries['torch']}, lightgbm {libraries['lightgbm']}."
    )


def written(path: Path, text: str) -> str:
    """`text`, the page at `path`, with each of its sections filled from the raw results; a missing section is an error."""
    for name, (render, results) in PAGES[path].items():
        section = f"<!-- {name} -->\n{render(*map(_raw, results))}\n<!-- /{name} -->"
        text, count = re.subn(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, new=section: new, text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{path}: expected one section {name}, found {count}")
    return text


def _raw(name: str) -> Result:
    result: Result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return result


def main() -> None:
    for path in PAGES:
        before = path.read_text(encoding="utf-8")
        after = written(path, before)
        if "--check" in sys.argv[1:] and after != before:
            raise SystemExit(f"{path}: expected the figures of {RESULTS}, found others. Run `python benchmarks/tables.py`")
        path.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
