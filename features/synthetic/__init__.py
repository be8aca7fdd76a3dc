"""A world with a known answer, in the layout of the Million Playlist Dataset, for tests, the demo and scale benchmarks.

Input: sizes and a seed. Output: `mpd.zip`, `audio_features.parquet`, `challenge.json`, `truth.parquet`. Neighbours beat
popularity there, titles and content say something, and order carries signal. The world is read like real data: knows no
vocabulary and no model.
"""

from features.synthetic.challenge import CATEGORIES
from features.synthetic.files import write_world
from features.synthetic.world import GENRES, MOODS

__all__ = ["CATEGORIES", "GENRES", "MOODS", "write_world"]
