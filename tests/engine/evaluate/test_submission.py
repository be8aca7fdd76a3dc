"""A submission says to an independent reader what was written, and a wrong one leaves no file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.evaluate.submission import write_submission
from features.domain import MAX_ANSWER, SegueError
from tests import oracles

TRACKS = [f"spotify:track:{i:04d}" for i in range(MAX_ANSWER)]
OLDER = "an older answer"


def write(path: Path, **changes: object) -> None:
    arguments = {
        "pids": ["7", "9"],
        "track_ids": [TRACKS, TRACKS[::-1]],
        "team": "Segue",
        "contact": "segue@example.org",
        "seeds": [[], []],
    }
    write_submission(path, **(arguments | changes))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pids=st.lists(st.integers(0, 10**6), unique=True, max_size=4), random=st.randoms(use_true_random=False))
def test_an_independent_reader_finds_what_was_written(tmp_path: Path, pids: list[int], random: object) -> None:
    rows = {str(pid): random.sample(TRACKS, len(TRACKS)) for pid in pids}  # type: ignore[attr-defined]
    write(tmp_path / "answer.csv", pids=list(rows), track_ids=iter(rows.values()), seeds=[[]] * len(rows))
    team, found = oracles.read_submission(tmp_path / "answer.csv")
    assert team == ["team_info", "Segue", "segue@example.org"]
    assert found == rows
    assert list(found) == list(rows)


def broken_row() -> Iterator[list[str]]:
    yield TRACKS
    raise RuntimeError("the recommender failed")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"track_ids": [TRACKS, TRACKS[1:]]}, r"playlist 9: expected 500 tracks, found 499"),
        ({"track_ids": [TRACKS, [*TRACKS, "one more"]]}, r"playlist 9: expected 500 tracks, found 501"),
        (
            {"track_ids": [TRACKS, [*TRACKS[1:], TRACKS[5]]]},
            r"playlist 9: tracks: expected 500 distinct ids, found 499: spotify:track:0005",
        ),
        ({"seeds": [[], [TRACKS[3], "unknown", TRACKS[2]]]}, r"playlist 9: expected none of its 3 seeds, found 2, spotify:track:0002"),
        ({"pids": ["7", "7"]}, r"playlists: expected 2 distinct ids, found 1: 7"),
        ({"seeds": [[]]}, r"seeds: expected one for each of 2 playlists, found 1"),
        ({"track_ids": [TRACKS]}, r"rows of tracks: expected one for each of 2 playlists, found 1"),
        ({"track_ids": [TRACKS, TRACKS, TRACKS]}, r"rows of tracks: expected one for each of 2 playlists, found 3"),
        ({"team": "Me, myself"}, r"expected text without comma.*found 'Me, myself'"),
        ({"contact": ""}, r"expected text without comma.*found ''"),
        ({"pids": ["7", "#9"]}, r"expected text without.*leading #.*found '#9'"),
        ({"track_ids": [TRACKS, [*TRACKS[1:], "a\nb"]]}, r"expected text without.*line break.*found 'a\\nb'"),
    ],
)
@pytest.mark.parametrize("older", [False, True])
def test_a_wrong_answer_is_refused_and_leaves_the_folder_as_it_was(
    tmp_path: Path, older: bool, changes: dict[str, object], message: str
) -> None:
    path = tmp_path / "answer.csv"
    if older:
        path.write_text(OLDER)
    with pytest.raises(SegueError, match=message):
        write(path, **changes)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == ({"answer.csv": OLDER} if older else {})


def test_a_failure_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the recommender failed"):
        write(tmp_path / "answer.csv", track_ids=broken_row())
    assert not list(tmp_path.iterdir())


def test_a_new_answer_replaces_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "answer.csv"
    for team in ("First", "Second"):
        write(path, team=team)
    assert oracles.read_submission(path)[0][1] == "Second"
    assert [file.name for file in path.parent.iterdir()] == ["answer.csv"]
