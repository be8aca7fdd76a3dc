"""An answer in the official file format of the RecSys Challenge 2018.

Input: playlist ids, 500 recommended track ids each, the seeds that must not be among them. Output: a CSV whose first
line is `team_info,<team>,<contact>` and whose others are `pid` and 500 track ids. Knows no model and no vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from features.atomic import written_whole
from features.domain import MAX_ANSWER, SegueError


def write_submission(
    path: Path,
    pids: Sequence[str],
    track_ids: Iterable[Sequence[str]],
    team: str,
    contact: str,
    *,
    seeds: Sequence[Collection[str]],
) -> None:
    """Writes one line per playlist: `track_ids[i]`, best first, continues `pids[i]`, whose seed tracks are `seeds[i]`.

    `track_ids` may be a generator: one row is held at a time. A row that has not 500 tracks, repeats one or names a
    seed, a playlist named twice, and a field that would break the CSV are a SegueError, and then no file appears and an
    older one stays as it was.
    """
    _require_equal("seeds", len(pids), len(seeds))
    _require_once("playlists", pids)
    with written_whole(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        file.write(_line(["team_info", team, contact]))
        written = 0
        for written, row in enumerate(track_ids, start=1):
            if written <= len(pids):
                _require_answer(pids[written - 1], row, seeds[written - 1])
                file.write(_line([pids[written - 1], *row]))
        _require_equal("rows of tracks", len(pids), written)


def _require_answer(pid: str, row: Sequence[str], seeds: Collection[str]) -> None:
    if len(row) != MAX_ANSWER:
        raise SegueError(
            f"playlist {pid}: expected {MAX_ANSWER} tracks, found {len(row)}. "
            f"The vocabulary holds too few tracks besides the seeds, or k was smaller. Recommend with k = {MAX_ANSWER}."
        )
    _require_once(f"playlist {pid}: tracks", row)
    repeated_seeds = sorted(set(row) & set(seeds))
    if repeated_seeds:
        raise SegueError(
            f"playlist {pid}: expected none of its {len(seeds)} seeds, found {len(repeated_seeds)}, {repeated_seeds[0]} among them. "
            "The seeds were not excluded. Pass the challenge's seeds as the query's seeds."
        )


def _require_once(name: str, ids: Sequence[str]) -> None:
    distinct = set(ids)
    if len(distinct) != len(ids):
        twice = next(one for i, one in enumerate(ids) if one in ids[:i])
        raise SegueError(f"{name}: expected {len(ids)} distinct ids, found {len(distinct)}: {twice} is there twice. Remove repeats.")


def _require_equal(name: str, expected: int, found: int) -> None:
    if expected != found:
        raise SegueError(f"{name}: expected one for each of {expected} playlists, found {found}. Pass them in the order of the playlists.")


def _line(fields: Sequence[str]) -> str:
    """The challenge's own checker splits at every comma, so nothing can be quoted."""
    for field in fields:
        if not field or field != field.strip() or field.startswith("#") or any(mark in field for mark in ',"\n\r'):
            raise SegueError(
                f"submission field: expected text without comma, quote, line break, leading # or outer space, found {field!r}. "
                "The challenge's checker cannot read it. Rename it."
            )
    return ",".join(fields) + "\n"
