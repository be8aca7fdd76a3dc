"""What a person sees while a command works and when it is done: progress bars, tables of figures, a list of tracks.

Input: phases and figures. Output: progress on stderr, results on stdout. Knows no command.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from features.progress import NO_FIGURES, Progress

Figure = float | int | str
UNFOLDED = 160
"""Characters a line may have where nobody's terminal folds it."""


def show(heading: str, values: Mapping[str, Figure]) -> None:
    """One table of names and figures on stdout."""
    table = Table(title=heading, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right", overflow="fold")
    for name, value in values.items():
        table.add_row(name, _shown(value))
    _stdout().print(table)


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A bar per phase on a terminal, else a line when a phase is done; all on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(phase: str, done: float, figures: Mapping[str, float] = NO_FIGURES, /) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=1.0, figures="")
            bars.update(tasks[phase], completed=done, figures=_in_words(figures))

        yield report


def _lines(console: Console) -> Progress:
    started = time.monotonic()

    def report(phase: str, done: float, figures: Mapping[str, float] = NO_FIGURES, /) -> None:
        if done >= 1:
            console.print(f"{time.monotonic() - started:6.0f} s  {phase}: done  {_in_words(figures)}".rstrip(), highlight=False)

    return report


def _in_words(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:,.6g}" for name, value in figures.items())


def show_rows(heading: str, columns: Sequence[str], rows: Sequence[Sequence[Figure | None]]) -> None:
    """A table on stdout, words to the left and figures to the right; None is an empty cell."""
    table = Table(title=heading, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        words = any(isinstance(row[i], str) for row in rows)
        table.add_column(column, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else _shown(value) for value in row))
    _stdout().print(table)


def _stdout() -> Console:
    """A pipe or a file is given all the width it needs; a terminal has its own."""
    console = Console()
    return console if console.is_terminal else Console(width=UNFOLDED)


def _shown(value: Figure) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}"
    return f"{value:,}" if isinstance(value, int) else value
