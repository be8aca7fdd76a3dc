"""The command line: `segue`, also `python -m engine`.

Every command is thin: it reads its options, calls the function that does the work, and shows what came back. What a person can
mend is one line on stderr and exit code 2; what the machine refuses (a full disk, a permission) is one line and exit code 1.
Heavy libraries are imported inside the commands that need them, so that `segue --help` is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from features.domain import SegueError

app = typer.Typer(
    name="segue",
    help="What comes next? Trains, measures and serves a two-stage music recommender.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Figure = float | int | str


def main() -> None:
    """Runs the command line and exits: 0, 2 for bad input, 1 for what the machine refuses, 130 when interrupted."""
    try:
        app()
    except SegueError as error:
        _leave(str(error), 2)
    except OSError as error:
        _leave(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)
    except MemoryError:
        _leave("the machine is out of memory", 1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.callback()
def _segue() -> None:
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
def describe(path: Annotated[Path, typer.Argument(metavar="PATH", help="A dataset.")]) -> None:
    """Show what is in a dataset: counts, sparsity, distributions, how much is known of the tracks."""
    from features.dataset import Dataset, figures

    for heading, values in figures(Dataset.open(path)).items():
        show(heading, values)


def show(heading: str, values: Mapping[str, Figure]) -> None:
    """One table of names and figures on stdout."""
    table = Table(title=heading, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right", overflow="fold")
    for name, value in values.items():
        table.add_row(name, _shown(value))
    Console().print(table)


@contextmanager
def shown_progress() -> Iterator[Callable[[str, float], None]]:
    """Called with (phase, share done): a bar per phase on a terminal, else a line when a phase is done; all on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda phase, done: console.print(f"{phase}: done", highlight=False) if done >= 1 else None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(phase: str, done: float) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=1.0)
            bars.update(tasks[phase], completed=done)

        yield report


def _shown(value: Figure) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}"
    return f"{value:,}" if isinstance(value, int) else value


def _leave(message: str, code: int) -> None:
    print(f"segue: {' '.join(message.splitlines())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
