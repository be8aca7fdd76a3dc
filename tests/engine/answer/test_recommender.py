"""Recommendations from Python: two lines to an answer, and one line for a wrong guess."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import engine
from engine import Recommender, open_model
from engine.answer.recommender import Recommendations
from engine.answer.rows import RecommendedTrack
from engine.model import Model
from features.domain import Queries, Query, SegueError
from tests.command_line import Segue


@pytest.fixture(scope="module")
def recommender(tiny_artifact: Path) -> Recommender:
    return open_model(str(tiny_artifact))


def ids(model: Model, *tracks: int) -> list[str]:
    return model.names.vocabulary.ids(tracks)


def test_the_answer_is_that_of_the_pipeline(recommender: Recommender, tiny_model: Model) -> None:
    answer = recommender.recommend(ids(tiny_model, 3, 8, 21), title="road trip", k=12)
    query = Query(np.array([3, 8, 21], np.int32), "road trip")
    expected = tiny_model.pipeline.recommend(Queries.of([query]), 12)
    assert [row.track_id for row in answer] == tiny_model.names.vocabulary.ids(expected.ranking.tracks[0])
    assert [row.score for row in answer] == expected.ranking.scores[0].tolist()
    assert answer.unknown_tracks == ()
    for place, row in enumerate(answer):
        assert row.sources == {source: ranks[0, place] for source, ranks in expected.ranks.items() if ranks[0, place]}


def test_a_known_playlist_is_continued_with_its_own_title(recommender: Recommender, tiny_model: Model) -> None:
    playlists = tiny_model.names.playlists
    tracks = playlists.tracks.row(4)
    by_id = recommender.recommend(playlist_id=playlists.ids[4], k=50)
    assert by_id == recommender.recommend(ids(tiny_model, *tracks), title=playlists.titles[4], k=50)
    assert not {row.track_id for row in by_id} & set(ids(tiny_model, *tracks))


@pytest.mark.parametrize("form", [list, tuple, pl.Series, np.array, iter])
def test_any_collection_of_ids_will_do_and_a_single_one(recommender: Recommender, tiny_model: Model, form: Any) -> None:
    tracks = ids(tiny_model, 3, 8)
    assert recommender.recommend(form(tracks)) == recommender.recommend(tracks)
    assert recommender.recommend(tracks[0]) == recommender.recommend(tracks[:1])
    assert recommender.recommend(tracks[0].removeprefix("spotify:track:")) == recommender.recommend(tracks[:1])


def test_rows_of_an_answer_stand_for_their_tracks(recommender: Recommender) -> None:
    found = recommender.search("a", limit=3)
    assert recommender.recommend(found) == recommender.recommend([row.track_id for row in found])
    assert recommender.similar(found[0], k=5) == recommender.similar(found[0].track_id, k=5)


def test_excluded_tracks_do_not_come_back(recommender: Recommender, tiny_model: Model) -> None:
    first = recommender.recommend(ids(tiny_model, 3), k=5)
    second = recommender.recommend(ids(tiny_model, 3), k=5, exclude=first)
    assert not {row.track_id for row in first} & {row.track_id for row in second}


def test_unknown_tracks_are_listed(recommender: Recommender, tiny_model: Model) -> None:
    answer = recommender.recommend(["nope", *ids(tiny_model, 3), "nor"])
    assert answer.unknown_tracks == ("nope", "nor")
    assert list(answer) == list(recommender.recommend(ids(tiny_model, 3)))
    assert recommender.recommend(["nope"], title="road trip").unknown_tracks == ("nope",)


def test_tracks_of_which_none_is_known_are_an_error_and_not_the_popular_answer(recommender: Recommender) -> None:
    with pytest.raises(SegueError, match=r"tracks: expected at least one of the \d+ known tracks, found nope, nor"):
        recommender.recommend(["nope", "nor"])
    assert all(set(row.sources) == {"popularity"} for row in recommender.recommend())  # nothing is asked: that is the popular answer


def test_an_explanation_names_features_and_seeds(recommender: Recommender, tiny_model: Model) -> None:
    seeds = ids(tiny_model, 3, 8)
    answer = recommender.recommend(seeds, k=3, explain=True)
    for row in answer:
        assert row.why is not None
        assert len(row.why.features) == 5
        assert set(row.why.similar_seeds) == set(seeds)
    assert all(row.why is None for row in recommender.recommend(seeds, k=3))


def test_similar_tracks_and_search(recommender: Recommender, tiny_model: Model) -> None:
    (track,) = ids(tiny_model, 3)
    near = recommender.similar(track, k=5)
    assert len(near) == 5
    assert track not in {row.track_id for row in near}
    assert [row.score for row in near] == sorted((row.score for row in near), reverse=True)
    artist = tiny_model.names.catalog.table["artist"][7]
    found = recommender.search(artist.upper(), limit=2)
    assert 1 <= len(found) <= 2
    assert all(artist in (row.artist, row.title) for row in found)
    with pytest.raises(SegueError, match=r"track_id: expected one of the \d+ known tracks, found 'nope'"):
        recommender.similar("nope")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k: expected a whole number from 1 to 500, found 0"),
        ({"k": 501}, "k: expected a whole number from 1 to 500, found 501"),
        ({"k": 2.5}, r"k: expected a whole number from 1 to 500, found 2\.5"),
        ({"k": "10"}, "k: expected a whole number from 1 to 500, found '10'"),
        ({"k": True}, "k: expected a whole number from 1 to 500, found True"),
        ({"tracks": 3}, "tracks: expected a track id such as '.*' or a list of them, found 3"),
        ({"tracks": None}, "tracks: expected a track id such as '.*' or a list of them, found None"),
        ({"tracks": ["a", 7]}, "tracks: expected a track id such as '.*' or a list of them, found 7"),
        ({"exclude": [["a"]]}, r"exclude: expected a track id such as '.*' or a list of them, found \['a'\]"),
        ({"title": 3}, "title: expected text, found 3"),
        ({"playlist_id": 7}, "playlist_id: expected text, found 7"),
        ({"playlist_id": "nowhere"}, "playlist_id: expected one of the .* known playlists, found 'nowhere'"),
    ],
)
def test_a_wrong_argument_is_one_line(recommender: Recommender, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SegueError, match=message) as caught:
        recommender.recommend(**arguments)
    assert "\n" not in str(caught.value)


def test_a_wrong_search_or_path_is_one_line(recommender: Recommender, world: Path, tmp_path: Path) -> None:
    with pytest.raises(SegueError, match="words: expected text, found 3"):
        recommender.search(3)  # type: ignore[arg-type]
    with pytest.raises(SegueError, match="limit: expected a whole number from 1 to 500, found 0"):
        recommender.search("a", limit=0)
    with pytest.raises(SegueError, match="open_model: expected the path of an artifact, found 3"):
        open_model(3)  # type: ignore[arg-type]
    for path in (tmp_path / "nowhere", tmp_path, world / "dataset"):
        with pytest.raises(SegueError, match=r"expected a readable folder with manifest\.json, found .* Run `segue train`") as caught:
            open_model(path)
        assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers(recommender: Recommender) -> None:
    assert len(recommender.recommend(k=np.int64(3))) == 3  # type: ignore[arg-type]


def test_it_says_what_it_is(recommender: Recommender, tiny_model: Model) -> None:
    version, sources = tiny_model.artifact.manifest.version, ", ".join(tiny_model.pipeline.sources)
    assert repr(recommender) == f"Recommender(version {version}, {recommender.num_tracks:,} tracks, sources {sources})"
    row = RecommendedTrack("id1", "Mask Off", "Future", 1.23456, {"als": 2, "slim": 1})
    assert str(row) == "Mask Off by Future (1.235; als 2, slim 1)"
    assert repr(row) == "RecommendedTrack(track_id='id1', title='Mask Off', artist='Future', score=1.23456)"
    assert str(RecommendedTrack("id1", None, None, 1, {"als": 2})) == "id1 (1.000; als 2)"
    answer = Recommendations([row] * 21, ["nope"])
    assert repr(answer).splitlines()[0] == "  1. Mask Off by Future (1.235; als 2, slim 1)"
    assert repr(answer).splitlines()[19:] == [" 20. Mask Off by Future (1.235; als 2, slim 1)", "… and 1 more", "unknown tracks: nope"]
    assert repr(Recommendations()) == "no tracks"


def test_an_answer_is_a_table_for_polars_and_survives_a_pickle(recommender: Recommender) -> None:
    answer = recommender.recommend(title="road trip", k=4)
    table = pl.DataFrame([{"track_id": row.track_id, "score": row.score} for row in answer])
    assert table.height == 4
    again = pickle.loads(pickle.dumps(answer))
    assert (again, again.unknown_tracks) == (answer, answer.unknown_tracks)


def test_the_command_line_shows_the_same_answer(recommender: Recommender, tiny_model: Model, tiny_artifact: Path, segue: Segue) -> None:
    seeds = ids(tiny_model, 3, 8)
    code, out, _ = segue("recommend", tiny_artifact, "--track", seeds[0], "--track", seeds[1], "-k", 5)
    assert code == 0
    for row in recommender.recommend(seeds, k=5):
        assert f"{row.score:.4f}" in out
        assert str(row.title) in out


def test_importing_the_package_imports_nothing() -> None:
    code = "import sys; import engine; raise SystemExit(bool({'torch', 'ray', 'polars', 'numpy', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], timeout=60, check=False).returncode == 0
    assert {"open_model", "Recommender"} <= set(dir(engine))
    with pytest.raises(AttributeError, match="has no attribute 'recommend'"):
        engine.recommend  # noqa: B018
