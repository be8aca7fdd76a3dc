"""Exportify's CSVs: a playlist a file, in any language of its headers.

Input: a text table without playlist ids. Output: which of its columns say what of a track, or nothing when it is no such file.
Recognised by `spotify:track:…` in the first cell and by two columns more, since headers are translated: a column whose header
is not English is told by its place after the address of its track, artist or album. Knows no dataset.
"""

from __future__ import annotations

import re
from pathlib import Path

from features.delimited import header_of, row_of
from features.schema import ALBUM, ARTIST, TITLE, TRACK_ID

_ENGLISH = {"Track Name": TITLE, "Artist Name(s)": ARTIST, "Album Name": ALBUM}
_AFTER = {"spotify:track:": TITLE, "spotify:artist:": ARTIST, "spotify:album:": ALBUM}
_KNOWN = 3
"""Columns that must be recognised, so that any other table of tracks without playlist ids is none."""


def columns_of_export(path: Path) -> dict[str, str]:
    """Per column of the file the name it gets; empty when the file is no export of Exportify."""
    header, first = header_of(path), row_of(path, 0)
    if not first or not first[0].startswith("spotify:track:"):
        return {}
    chosen = {header[0]: TRACK_ID, **{name: ours for name, ours in _ENGLISH.items() if name in header}}
    for name, cell in zip(header[1:], first, strict=False):
        for address, ours in _AFTER.items():
            if cell.startswith(address) and ours not in chosen.values():
                chosen[name] = ours
    return chosen if len(chosen) >= _KNOWN else {}


def name_of_export(path: Path) -> str:
    """The playlist's name, which is the file's without its endings."""
    return re.sub(r"\.(csv|tsv)(\.gz)?$", "", path.name, flags=re.IGNORECASE)
