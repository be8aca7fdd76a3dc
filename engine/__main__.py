"""The command line: `segue`, also `python -m engine`.

Every command is thin: it reads its options, calls the function that does the work, and shows what came back. What a person can
mend is one line on stderr and exit code 2; what the machine refuses (a full disk, a permission) is one line and exit code 1.
Heavy libraries are imported inside the commands that need them, so that `segue --help` is instant.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from engine.cli.console import Figure, show, show_rows, shown_progress
from engine.cli.plain_text import plain, spell_what_cannot_be_encoded
from features.domain import MAX_ANSWER, SegueError

if TYPE_CHECKING:
    from engine.model import Model


class Topology(StrEnum):
    """How the stages are laid out when served."""

    composed = "composed"
    fused = "fused"


app = typer.Typer(
    name="segue",
    help="What comes next? Trains, measures and serves a two-stage music recommender.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Runs the command line and exits: 0, 2 for bad input, 1 for what the machine refuses, 130 when interrupted."""
    spell_what_cannot_be_encoded()
    try:
        sys.exit(app(standalone_mode=False))
    except TyperException as error:
        _leave(f"{error} See `segue --help`" if str(error) else "expected a command, found none. See `segue --help`", 2)
    except SegueError as error:
        _leave(str(error), 2)
    except OSError as error:
        _leave(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)
    except MemoryError:
        _leave("the machine is out of memory", 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"segue {version('segue')}")
        raise typer.Exit


@app.callback()
def _segue(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Keeps `segue COMMAND` the form of a call, however many commands there are."""


@app.command(epilog="Example: segue synth world --playlists 3000 --seed 1")
def synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the four files go.")],
    playlists: Annotated[int, typer.Option(min=1, help="Playlists in mpd.zip; the challenge gets a tenth as many more.")] = 3_000,
    tracks: Annotated[int, typer.Option(min=500, help="Tracks there are.")] = 6_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same bytes.")] = 0,
) -> None:
    """Write a synthetic world in MPD layout: mpd.zip, audio_features.parquet, challenge.json, truth.parquet."""
    from features.synthetic import write_world

    with shown_progress() as progress:
        write_world(folder, playlists, tracks, seed, progress)
    typer.echo(f"{folder}: {playlists} playlists over {tracks} tracks")


@app.command(epilog="Example: segue ingest mpd.zip --out dataset --tracks audio_features.parquet --challenge challenge.json")
def ingest(
    out: Annotated[Path, typer.Option(metavar="DATASET", help="The dataset directory to write; a dataset that is there is replaced.")],
    sources: Annotated[list[Path] | None, typer.Argument(metavar="SOURCE…", help="MPD zip, folder or slice; parquet or CSV table.")] = None,
    tracks: Annotated[Path | None, typer.Option(metavar="FILE", help="Audio features by track_id or track_uri.")] = None,
    challenge: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Playlists to continue; may be given again.")] = None,
) -> None:
    """Read playlists, and what is known of their tracks, into a dataset."""
    from features.ingest import ingest as ingest_files

    if not sources and not tracks:
        raise SegueError("ingest: expected at least one SOURCE, or --tracks FILE for tracks alone, found neither")
    with shown_progress() as progress:
        summary = ingest_files(sources or (), out, tracks, challenge or (), progress)
    show("ingested", {name.replace("_", " "): value for name, value in vars(summary).items()})


@app.command(epilog="Example: segue describe dataset")
def describe(path: Annotated[Path, typer.Argument(metavar="PATH", help="A dataset or an artifact.")]) -> None:
    """Show what is in a dataset (counts, distributions, coverage) or in an artifact (its manifest and figures)."""
    from engine.artifact import MANIFEST, open_artifact

    if (path / MANIFEST).is_file():
        from engine.cli.describe import figures as of_artifact

        headings = of_artifact(open_artifact(path).manifest)
    else:
        from features.dataset import Dataset
        from features.describe import figures

        headings = figures(Dataset.open(path))
    for heading, values in headings.items():
        show(heading, values)


@app.command(
    epilog="Examples: segue train dataset --out artifact --workers 2;  segue train newer-dataset --from artifact --out newer-artifact;  "
    "RAY_ADDRESS=head:6379 segue train /data/set --out artifact --workers 8 --cpus-per-worker 4 --storage s3://bucket/training"
)
def train(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="What `segue ingest` wrote.")],
    out: Annotated[Path, typer.Option(metavar="ARTIFACT", help="The artifact to write; an older artifact is replaced.")],
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML, or a preset's name; the defaults are those that win on real data.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, max=1024, help="Ray Train workers; 0 trains in this process, without Ray.")] = 1,
    cpus_per_worker: Annotated[
        int | None, typer.Option(min=1, help="CPUs each worker reserves and threads it runs; else all there are, shared out.")
    ] = None,
    gpus_per_worker: Annotated[int, typer.Option(min=0, help="GPUs each worker reserves.")] = 0,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Where unfinished work is kept, to resume from: a path that all workers see, or a URI (s3://, gs://, hdfs://, "
            "file://); else .segue-train beside the artifact.",
        ),
    ] = None,
    previous: Annotated[Path | None, typer.Option("--from", metavar="ARTIFACT", help="A previous model to start warm from.")] = None,
    effort: Annotated[float, typer.Option(help="With --from: the share of the sweeps and epochs to make, more than 0, at most 1.")] = 0.25,
) -> None:
    """Train both stages with Ray Train and write one artifact. After a failure the same command resumes.

    With --from the settings and the ranker are those of a previous model, and its sources start from what they have learned.

    The workers are those of the Ray cluster at RAY_ADDRESS, else of this machine; DATASET must be at the same path on every node.
    """
    _expect_torch("train")
    from engine.config import read_config
    from engine.train.launch import train as train_model
    from engine.train.warm_start import PreviousModel

    if previous and config:
        raise SegueError("train: expected one of --config and --from, found both: a model keeps the settings it was trained with")
    warm = PreviousModel.at(previous, effort) if previous else None
    settings = warm.config if warm else read_config(config)
    with shown_progress() as progress:
        manifest = train_model(
            dataset,
            out,
            settings,
            workers=workers,
            storage=storage,
            report=progress,
            threads=cpus_per_worker,
            gpus=gpus_per_worker,
            previous=warm,
            say=lambda line: typer.echo(f"segue: {line}", err=True),
        )
    typer.echo(f"{out}: version {manifest.version}, {len(manifest.sources)} sources, {len(manifest.feature_names)} pair features")


@app.command(epilog="Example: segue evaluate artifact --challenge challenge.json --truth truth.parquet")
def evaluate(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="What `segue train` wrote.")],
    challenge: Annotated[Path, typer.Option(metavar="FILE", help="Playlists to continue.")],
    truth: Annotated[Path, typer.Option(metavar="FILE", help="What was hidden from them: pid, category, track_uri.")],
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the report here.")] = None,
) -> None:
    """Report how good every source, their union, fusion and the ranker are."""
    from engine.cli.describe import show_report
    from engine.evaluate.report import evaluate as evaluate_model
    from engine.evaluate.report import write_report
    from engine.model import load_model

    model = load_model(artifact)
    with shown_progress() as progress:
        result = evaluate_model(model, challenge, truth, progress)
    show_report(result, model.artifact.manifest)
    if json:
        write_report(json, result)


@app.command(
    epilog="Examples: segue recommend artifact --challenge challenge.json --out submission.csv;  segue recommend artifact --track ID -k 10"
)
def recommend(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="What `segue train` wrote.")],
    challenge: Annotated[Path | None, typer.Option(metavar="FILE", help="Write an official submission for these playlists.")] = None,
    playlists: Annotated[Path | None, typer.Option(metavar="DATASET", help="Write a table for every playlist of this dataset.")] = None,
    track: Annotated[list[str] | None, typer.Option(metavar="ID", help="A seed track; may be given again.")] = None,
    title: Annotated[str, typer.Option(help="The playlist's title.")] = "",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="With --challenge a CSV, with --playlists a parquet table.")] = None,
    k: Annotated[int, typer.Option("-k", help=f"Tracks a playlist, 1 to {MAX_ANSWER}; a submission always has {MAX_ANSWER}.")] = 10,
    source: Annotated[str | None, typer.Option(help="With --playlists: what this source alone says.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show which sources and features brought each track.")] = False,
    team: Annotated[str, typer.Option(help="The team named in a submission.")] = "segue",
    contact: Annotated[str, typer.Option(help="The address named in a submission.")] = "segue@example.org",
) -> None:
    """Continue one playlist on the terminal, a challenge's playlists as a submission, or every playlist of a dataset."""
    from engine.model import load_model

    if not 1 <= k <= MAX_ANSWER:
        raise SegueError(f"-k: expected 1 to {MAX_ANSWER}, found {k}")
    if challenge and playlists:
        raise SegueError("recommend: expected one of --challenge and --playlists, found both")
    if (challenge or playlists) and not out:
        raise SegueError("recommend: expected --out FILE beside --challenge or --playlists, found none")
    model = load_model(artifact)
    if challenge and out:
        _recommend_challenge(model, challenge, out, team, contact)
    elif playlists and out:
        _recommend_playlists(model, playlists, out, k, source)
    else:
        _recommend_one(model, track or [], title, k, explain)


@app.command(epilog="Example: segue serve artifact --port 8000")
def serve(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="What `segue train` wrote.")],
    topology: Annotated[Topology, typer.Option(help="composed: a deployment per stage; fused: all in one replica.")] = Topology.composed,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On the loopback interface.")] = 8000,
    replicas: Annotated[int | None, typer.Option(min=1, max=64, help="Of every deployment; else 1, fused one a core.")] = None,
) -> None:
    """Serve recommendations over HTTP with Ray Serve until interrupted."""
    from engine.serve.service import serve_forever

    raise typer.Exit(serve_forever(artifact, topology.value, port, replicas, lambda line: typer.echo(plain(line))))


@app.command(epilog="Example: segue deploy newer-artifact")
def deploy(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="The model that takes over, at this path on every node.")],
) -> None:
    """Let a running service turn to another model without a gap; going back is the same command with the older one.

    The service is that of the Ray cluster at RAY_ADDRESS, else of this machine. A model that cannot be served is refused.
    """
    from engine.artifact import open_artifact
    from engine.serve.service import deploy as change_model

    typer.echo(plain(f"Deploying {open_artifact(artifact, verify='size').manifest.identity()}"))
    change = change_model(artifact)
    typer.echo(
        f"model {change.version} is served" + (f", no longer {change.previous}" if change.previous != change.version else " already")
    )


@app.command(
    epilog="Example: segue bench serving artifact --challenge challenge.json --out serving.json",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def bench(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Which; none: what there is.")] = None,
) -> None:
    """Measure: `segue bench` lists what there is; all after NAME goes to that benchmark."""
    from engine.cli.bench import benchmarks, run

    if name is None or name == "--help":
        show_rows("segue bench NAME …", ["name", "question"], [[found, question] for found, question in benchmarks().items()])
        typer.echo(f"{context.command.epilog}\n`segue bench NAME --help` says what a benchmark takes.")
        return
    sys.exit(run(name, context.args))


@app.command(epilog="Example: segue demo --keep demo-files")
def demo(
    keep: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the world, the dataset and the artifact here.")] = None,
) -> None:
    """Do the whole job on a small synthetic world: generate, ingest, train, evaluate, serve, ask over HTTP."""
    from tempfile import TemporaryDirectory

    _expect_torch("demo")
    from engine.cli.demo import demo as run_demo

    with TemporaryDirectory(prefix="segue-demo-") as scratch:
        run_demo(keep or Path(scratch), typer.echo)


def _recommend_challenge(model: Model, challenge: Path, out: Path, team: str, contact: str) -> None:
    from engine.evaluate.batch import continue_challenge

    with shown_progress() as progress:
        unknown = continue_challenge(model, challenge, out, team, contact, progress)
    typer.echo(f"{out}: {MAX_ANSWER} tracks a playlist; {unknown} seed tracks are not in the vocabulary")


def _recommend_playlists(model: Model, playlists: Path, out: Path, k: int, source: str | None) -> None:
    from engine.evaluate.batch import continue_playlists
    from features.dataset import Dataset

    with shown_progress() as progress:
        rows = continue_playlists(model, Dataset.open(playlists), out, k, source, progress)
    typer.echo(f"{out}: {rows:,} rows")


def _recommend_one(model: Model, tracks: list[str], title: str, k: int, explain: bool) -> None:
    from engine.answer.recommender import recommend_tracks
    from engine.answer.resolve import resolve

    answer = recommend_tracks(model, resolve(model.names, tracks, title=title), k, explain)
    for track_id in answer.unknown_tracks:
        typer.echo(f"segue: unknown track {plain(track_id)} is left out", err=True)
    columns = ["rank", "title", "artist", "score", "proposed by (at rank)"]
    table: list[list[Figure | None]] = []
    for place, row in enumerate(answer, start=1):
        proposed = ", ".join(f"{source} {rank}" for source, rank in row.sources.items())
        table.append([place, row.title or row.track_id, row.artist or "", row.score, proposed])
    if any(row.why for row in answer):
        columns.append("what counted")
        for line, row in zip(table, answer, strict=True):
            line.append(", ".join(f"{name} {value:+.2f}" for name, value in row.why.features.items()) if row.why else "")
    show_rows("what comes next", columns, table)


def _expect_torch(command: str) -> None:
    if find_spec("torch") is None:
        extra = "Install Segue with its training extra: pip install 'segue[train]'"
        raise SegueError(f"{command}: expected torch, found none. {extra}")


def _leave(message: str, code: int) -> None:
    print(f"segue: {plain(' '.join(message.splitlines()))}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
