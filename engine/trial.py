"""Trial of an artifact before it is sealed or served: it is opened as a server opens it, and asked.

Input: the folder of an artifact. Output: nothing, or one SegueError that says what did not open or answer. In a process of its own
(`tried_apart`, or `python -m engine.trial ARTIFACT`) not even a model that ends its process or never answers does any harm. Knows
no training and no service.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.answer.recommender import Recommendations, Recommender
from engine.model import load_model
from features.domain import SegueError

PLAYLISTS = 5
"""Known playlists that are continued, spread over all there are."""
SEEDS = 10
"""The first tracks of each."""
TIMEOUT_S = 600.0
"""For the whole trial in a process of its own."""
REFUSED = 2
"""The exit code of a trial that said what is wrong with the model."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
"""The trial runs beside a service, which needs the cores."""


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


def tried_apart(artifact: Path, timeout_s: float = TIMEOUT_S) -> None:
    """`try_out` in a process of its own; whatever becomes of that process is a SegueError here."""
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-P", "-m", "engine.trial", str(artifact)]
    try:
        run = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise SegueError(f"{artifact}: expected answers within {timeout_s:g} s when it was tried, found none. Train again") from error
    said = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
    if run.returncode == REFUSED:
        raise SegueError(said)
    if run.returncode:
        found = signal.Signals(-run.returncode).name if run.returncode < 0 else said
        advice = "Look whether the machine has memory left" if run.returncode == -signal.SIGKILL else "Train again"
        raise SegueError(f"{artifact}: expected answers when it was tried, found {found}. {advice}")


def main(arguments: Sequence[str]) -> None:
    """Exits with 0, or with REFUSED after one line on stderr."""
    try:
        try_out(Path(*arguments))
    except SegueError as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)


if __name__ == "__main__":
    main(sys.argv[1:])
