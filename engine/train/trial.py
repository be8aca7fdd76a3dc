"""The last step before an artifact is sealed: it is opened as a server opens it, and asked.

Input: the folder of a new artifact. Output: nothing, or one SegueError that says what did not open or answer. Knows no training.
"""

from __future__ import annotations

import math
from pathlib import Path

from engine.answer.recommender import Recommendations, Recommender
from engine.model import load_model
from features.domain import SegueError

PLAYLISTS = 5
"""Known playlists that are continued, spread over all there are."""
SEEDS = 10
"""The first tracks of each."""


def try_out(folder: Path) -> None:
    """Asks for the popular tracks, and how some known playlists go on, one of them with reasons. Reads every file once."""
    model = load_model(folder)
    recommender, known = Recommender(model), model.names.playlists
    if not _sound(recommender.recommend()):
        raise SegueError("answer to an empty query: expected popular tracks, found none")
    for row in sorted({i * len(known.ids) // PLAYLISTS for i in range(PLAYLISTS)} if known.ids else ()):
        tracks = model.names.vocabulary.ids(known.tracks.row(row)[:SEEDS])
        _sound(recommender.recommend(tracks, title=known.titles[row], explain=row == 0))


def _sound(answer: Recommendations) -> Recommendations:
    wrong = [track for track in answer if not math.isfinite(track.score)]
    if wrong:
        raise SegueError(f"score of {wrong[0].track_id}: expected a finite number, found {wrong[0].score}")
    return answer
