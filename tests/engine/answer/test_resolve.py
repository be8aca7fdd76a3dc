"""Words to numbers and back: what is asked, what is not known of it, and the rows of an answer."""

from __future__ import annotations

import numpy as np
import pytest

from engine.answer.resolve import UnknownPlaylist, UnknownTrack, ask, in_words, known_track, rows
from engine.model import Model
from engine.pipeline import Answer
from features.domain import NO_TRACK, Queries, Ranking


def ids(model: Model, *tracks: int) -> list[str]:
    return model.names.vocabulary.ids(tracks)


def test_tracks_become_seeds_in_their_order_without_repeats(tiny_model: Model) -> None:
    asked = ask(tiny_model.names, ids(tiny_model, 7, 3, 7, 5), title="road trip", exclude=ids(tiny_model, 2, 2))
    assert asked.query.seeds.tolist() == [7, 3, 5]
    assert asked.query.exclude.tolist() == [2]
    assert asked.query.title == "road trip"
    assert asked.unknown == ()


def test_both_forms_of_a_spotify_id_are_the_same_track(tiny_model: Model) -> None:
    one = ids(tiny_model, 4)[0].removeprefix("spotify:track:")
    assert ask(tiny_model.names, [one, f"spotify:track:{one}"]).query.seeds.tolist() == [4]


def test_unknown_tracks_are_named_once_and_unknown_exclusions_do_nothing(tiny_model: Model) -> None:
    asked = ask(tiny_model.names, ["no", *ids(tiny_model, 1), "no", "nor"], exclude=["never"])
    assert asked.unknown == ("no", "nor")
    assert asked.query.seeds.tolist() == [1]
    assert not len(asked.query.exclude)


def test_nothing_asked_is_an_empty_query(tiny_model: Model) -> None:
    query = ask(tiny_model.names).query
    assert (len(query.seeds), query.title, len(query.exclude)) == (0, "", 0)
    assert query.seeds.dtype == np.int32


def test_a_known_playlist_brings_its_tracks_before_the_given_ones_and_its_title(tiny_model: Model) -> None:
    playlists = tiny_model.names.playlists
    tracks, title = playlists.tracks.row(5).tolist(), playlists.titles[5]
    other = next(track for track in range(400) if track not in tracks)
    asked = ask(tiny_model.names, ids(tiny_model, other, tracks[0]), playlists.ids[5])
    assert asked.query.seeds.tolist() == [*dict.fromkeys(tracks), other]
    assert asked.query.title == title
    assert ask(tiny_model.names, (), playlists.ids[5], "mine").query.title == "mine"


def test_an_unknown_playlist_or_track_is_an_error_that_says_both(tiny_model: Model) -> None:
    with pytest.raises(UnknownPlaylist, match=r"known playlists, found 'nowhere'"):
        ask(tiny_model.names, playlist_id="nowhere")
    with pytest.raises(UnknownTrack, match=r"one of the \d+ known tracks, found 'nothing'"):
        known_track(tiny_model.names, "nothing")
    assert known_track(tiny_model.names, ids(tiny_model, 9)[0]) == 9


def test_rows_say_titles_and_who_proposed_and_stop_at_the_padding(tiny_model: Model) -> None:
    ranking = Ranking(np.array([[3, 1, NO_TRACK]], np.int32), np.array([[2.0, 1.5, -np.inf]], np.float32))
    ranks = {"als": np.array([[4, 0, 0]], np.int32), "title": np.array([[1, 2, 0]], np.int32)}
    first, second = rows(tiny_model.names, Answer(ranking, ranks))
    track_id, title, artist = next(in_words(tiny_model.names, np.array([3], np.int32)))
    assert (first.track_id, first.title, first.artist, first.score) == (track_id, title, artist, 2.0)
    assert title
    assert artist
    assert first.sources == {"als": 4, "title": 1}
    assert second.sources == {"title": 2}


def test_rows_of_the_second_query_are_its_own(tiny_model: Model) -> None:
    queries = Queries.of([ask(tiny_model.names, ids(tiny_model, 1)).query, ask(tiny_model.names, ids(tiny_model, 2)).query])
    answer = tiny_model.pipeline.recommend(queries, 5)
    assert [row.track for row in rows(tiny_model.names, answer, 1)] == answer.ranking.tracks[1].tolist()
