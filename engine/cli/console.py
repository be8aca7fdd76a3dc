"""What a person sees while a command works and when it is done: progress bars, tables of figures, a list of tracks.

Input: phases and figures. Output: progress on stderr, results on stdout. Text is shown as it is, never read as markup; on a narrow
terminal a table becomes a list, so that names and figures stay whole. Knows no command.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from engine.cli.plain_text import plain
from features.progress import NO_FIGURES, Progress

Figure = float | int | str
UNFOLDED = 160
"""Characters a line may have where nobody's terminal folds it."""
FOLDED_WORDS = 24
"""The width at which words in a table may still be folded; in less they cannot be read."""
FRAME = 7
"""Characters of the lines and spaces around two columns."""


def show(heading: str, values: Mapping[str, Figure]) -> None:
    """One table of names and figures on stdout."""
    console = _stdout()
    table = Table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", overflow="fold")
    for name, value in values.items():
        table.add_row(_text(name), _text(_shown(value)))
    names, longest = (max((_width(text) for text in texts), default=0) for texts in (values, _whole(values.values())))
    console.print(_text(heading), style="italic")
    if names + longest + FRAME <= console.width:
        console.print(table)
    else:
        _show_list(console, [[(None, name), (None, _shown(value))] for name, value in values.items()])


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A bar per phase on a terminal, else a line when a phase is done; all on stderr."""
    console = Console(stderr=True, emoji=False)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(phase: str, done: float, figures: Mapping[str, float] = NO_FIGURES, /) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(plain(phase), total=1.0, figures="")
            bars.update(tasks[phase], completed=done, figures=_in_words(figures))

        yield report


def _lines(console: Console) -> Progress:
    started = time.monotonic()

    def report(phase: str, done: float, figures: Mapping[str, float] = NO_FIGURES, /) -> None:
        if done >= 1:
            console.print(
                f"{time.monotonic() - started:6.0f} s  {plain(phase)}: done  {_in_words(figures)}".rstrip(), highlight=False, markup=False
            )

    return report


def _in_words(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:,.6g}" for name, value in figures.items())


def show_rows(heading: str, columns: Sequence[str], rows: Sequence[Sequence[Figure | None]]) -> None:
    """A table on stdout, words to the left and figures to the right; None is an empty cell."""
    console, needed = _stdout(), 0
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        words = any(isinstance(row[i], str) for row in rows)
        table.add_column(_text(column), justify="left" if words else "right", no_wrap=not words, overflow="fold")
        widest = max(_width(column), *(_width(_cell(row[i])) for row in rows)) if rows else _width(column)
        needed += min(widest, FOLDED_WORDS) + 1 if words else widest + 1
    for row in rows:
        table.add_row(*(_text(_cell(value)) for value in row))
    console.print(_text(heading), style="italic")
    if needed <= console.width:
        console.print(table)
    else:
        _show_list(console, [[(name, _cell(value)) for name, value in zip(columns, row, strict=True)] for row in rows])


def _show_list(console: Console, rows: Sequence[Sequence[tuple[str | None, str]]]) -> None:
    """Each row under its first cell, a cell a line, for a terminal that is too narrow for a table."""
    for (_, first), *others in rows:
        console.print(_text(first), style="bold", overflow="fold")
        for name, cell in others:
            if cell:
                console.print(_text(f"  {name}: {cell}" if name else f"  {cell}"), overflow="fold")


def _text(text: str) -> Text:
    """As it is: brackets are no markup, and what a terminal would obey is spelled."""
    return Text(plain(text))


def _width(text: str) -> int:
    return Text(plain(text)).cell_len


def _cell(value: Figure | None) -> str:
    return "" if value is None else _shown(value)


def _whole(values: Iterable[Figure]) -> list[str]:
    """What must not be cut: a figure; words may be folded."""
    return [_shown(value)[:FOLDED_WORDS] if isinstance(value, str) else _shown(value) for value in values]


def _stdout() -> Console:
    """A pipe or a file is given all the width it needs; a terminal has its own."""
    console = Console()
    return console if console.is_terminal else Console(width=UNFOLDED)


def _shown(value: Figure) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}"
    return f"{value:,}" if isinstance(value, int) else value
