"""A challenge becomes queries and its truth qrels, with nothing lost silently."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.evaluate import metrics
from features.challenge import NO_CATEGORY, read_challenge, read_truth
from features.domain import NO_TRACK, Ranking, SegueError
from features.vocabulary import Vocabulary
from tests import oracles

VOCABULARY = Vocabulary([f"t{i}" for i in range(10)])
IDS = st.integers(0, 14).map(lambda i: f"t{i}")
"""The last five are unknown to the vocabulary."""


def challenge_file(folder: Path, playlists: Sequence[Mapping[str, Any]]) -> Path:
    path = folder / "challenge.json"
    path.write_text(json.dumps({"name": "test", "version": "v1", "playlists": playlists}))
    return path


def playlist(pid: int, track_ids: Sequence[str], positions: Sequence[int] | None = None, **more: object) -> dict[str, Any]:
    tracks = [{"pos": pos, "track_uri": uri} for pos, uri in zip(positions or range(len(track_ids)), track_ids, strict=True)]
    return {"pid": pid, "tracks": tracks, "num_samples": len(tracks), **more}


def truth_file(folder: Path, rows: Sequence[tuple[int, int, str]]) -> Path:
    path = folder / "truth.parquet"
    pl.DataFrame(rows, schema={"pid": pl.Int64, "category": pl.Int64, "track_uri": pl.String}, orient="row").write_parquet(path)
    return path


def test_seeds_are_in_playlist_order_without_repeats_and_unknown_ones_are_counted(tmp_path: Path) -> None:
    path = challenge_file(
        tmp_path,
        [
            playlist(31, ["t5", "t3", "t5", "new", "t1", "new"], [40, 2, 7, 3, 0, 9], name="Rain"),
            playlist(8, [], name="Sun"),
            playlist(12, ["new", "newer"]),
        ],
    )
    challenge = read_challenge(path, VOCABULARY)
    assert challenge.pids == ("31", "8", "12")
    assert challenge.queries.titles == ("Rain", "Sun", "")
    assert [challenge.queries.seeds_of(i).tolist() for i in range(3)] == [[1, 3, 5], [], []]
    assert [challenge.queries.excluded(i).tolist() for i in range(3)] == [[1, 3, 5], [], []]
    assert challenge.unknown_seeds.tolist() == [1, 0, 2]


def test_the_two_forms_of_a_spotify_id_are_one_track(tmp_path: Path) -> None:
    path = challenge_file(tmp_path, [playlist(1, ["spotify:track:t2", "t2"])])
    assert read_challenge(path, VOCABULARY).queries.seeds.values.tolist() == [2]
    truth = read_truth(truth_file(tmp_path, [(1, 0, "spotify:track:t4"), (1, 0, "t4")]), ["1"], VOCABULARY)
    assert truth.qrels.relevant.values.tolist() == [4]


def test_an_empty_challenge_is_a_challenge(tmp_path: Path) -> None:
    challenge = read_challenge(challenge_file(tmp_path, []), VOCABULARY)
    assert (challenge.pids, len(challenge.queries), challenge.unknown_seeds.tolist()) == ((), 0, [])


def test_truth_is_in_the_order_of_the_challenge(tmp_path: Path) -> None:
    rows = [(8, 4, "t7"), (31, 0, "new"), (8, 4, "t2"), (31, 0, "t9"), (8, 4, "t7"), (31, 0, "newer"), (8, 4, "new")]
    truth = read_truth(truth_file(tmp_path, rows), ["31", "12", "8"], VOCABULARY)
    first, second, third = (truth.qrels.of_query(i) for i in range(3))
    assert truth.categories.tolist() == [0, NO_CATEGORY, 4]
    assert (first[1], second.tolist(), third[:2].tolist()) == (9, [], [7, 2])
    assert first[0] == third[2] < NO_TRACK  # the same unknown track
    assert len({NO_TRACK, *first.tolist()}) == 4  # two different ones


def test_a_truth_may_have_no_categories(tmp_path: Path) -> None:
    path = tmp_path / "truth.parquet"
    pl.DataFrame({"pid": ["a"], "track_uri": ["t1"]}).write_parquet(path)
    assert read_truth(path, ["a"], VOCABULARY).categories.tolist() == [NO_CATEGORY]


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hidden=st.lists(st.lists(IDS, max_size=12), min_size=1, max_size=4), ranked=st.permutations(range(10)))
def test_metrics_over_indices_equal_metrics_over_ids(tmp_path: Path, hidden: list[list[str]], ranked: list[int]) -> None:
    """What a scorer that never saw a vocabulary computes from the ids is what we compute from indices."""
    pids = [str(pid) for pid in range(len(hidden))]
    path = truth_file(tmp_path, [(pid, 0, uri) for pid, uris in enumerate(hidden) for uri in uris])
    tracks = np.tile(np.array(ranked, np.int32), (len(pids), 1))
    found = metrics.per_query(Ranking(tracks, np.zeros(tracks.shape, np.float32)), read_truth(path, pids, VOCABULARY).qrels)
    ids = VOCABULARY.ids(ranked)
    np.testing.assert_allclose(found["ndcg@500"], [oracles.ndcg(ids, set(uris), 500) for uris in hidden])
    np.testing.assert_allclose(found["r_precision"], [oracles.r_precision(ids, set(uris)) for uris in hidden])
    np.testing.assert_allclose(found["clicks"], [oracles.clicks(ids, set(uris)) for uris in hidden])
    np.testing.assert_allclose(found["recall@500"], [oracles.recall(ids, set(uris), 500) for uris in hidden])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"playlists": [{"pid": 1', r"expected .*\"playlists\".*found text that is no JSON or breaks off"),
        ('{"songs": []}', r"expected .*\"playlists\".*found an object with the keys songs"),
        ("[]", r"expected .*\"playlists\".*found a JSON list"),
        ('{"playlists": [{"pid": 1, "tracks": []}, {"pid": 1, "tracks": []}]}', r"expected every pid once, found 2 playlists with 1 pids"),
        ('{"playlists": [{"tracks": []}]}', r"expected a pid in every playlist, found 1 without"),
        ('{"playlists": [{"pid": 1, "tracks": [{"pos": 0}]}]}', r"expected a track_uri in every track, found 1 without"),
    ],
)
def test_a_file_of_another_layout_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "challenge.json"
    path.write_text(content)
    with pytest.raises(SegueError, match=message):
        read_challenge(path, VOCABULARY)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match=r"none\.json: expected a challenge file, found no file"):
        read_challenge(tmp_path / "none.json", VOCABULARY)
    with pytest.raises(SegueError, match=r"none\.parquet: expected a truth table in parquet, found .*No such file"):
        read_truth(tmp_path / "none.parquet", [], VOCABULARY)


def test_the_truth_of_another_challenge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match=r"expected only the 1 playlists of the challenge, found 2 others, 7 among them"):
        read_truth(truth_file(tmp_path, [(1, 0, "t1"), (7, 0, "t1"), (9, 0, "t2")]), ["1"], VOCABULARY)


def test_a_truth_with_gaps_or_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "truth.parquet"
    pl.DataFrame({"pid": [1, 2], "track_uri": ["t1", None]}).write_parquet(path)
    with pytest.raises(SegueError, match=r"expected a pid and a track_uri in each of 2 rows, found 1 empty"):
        read_truth(path, ["1", "2"], VOCABULARY)
    pl.DataFrame({"pid": [1], "song": ["t1"]}).write_parquet(path)
    with pytest.raises(SegueError, match=r"expected the columns pid, category, track_uri, found pid, song, category"):
        read_truth(path, ["1"], VOCABULARY)


def test_a_damaged_truth_is_refused(tmp_path: Path) -> None:
    path = truth_file(tmp_path, [(1, 0, "t1"), (1, 0, "t2")])
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(SegueError, match=r"expected a truth table in parquet, found "):
            read_truth(path, ["1"], VOCABULARY)
