"""Text of strangers, made harmless for a terminal: what is no visible character is spelled out.

Input: any text, such as the title of a track. Output: the same text in one line, in which control characters, escape sequences and
marks that turn the direction of reading are shown as `\\x1b` or `\\u202e`. Knows no table and no command.
"""

from __future__ import annotations

import re
import sys

HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
"""Controls of both sets, zero-width space, marks of direction, separators of lines, halves of pairs. The joiners of emoji and of
some scripts stay: without them those texts read differently."""


def plain(text: str) -> str:
    """`text` with each hidden character as Python spells it; of visible characters nothing is changed."""
    return HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def spell_what_cannot_be_encoded() -> None:
    """A terminal or pipe that knows few characters gets the others spelled, where Python would end in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
