"""Text from outside, made fit to be shown to a person: one way for what servers, files and names hold."""

from __future__ import annotations

import re

ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, the cursor, the screen
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, ...: titles, links
    r"|\x1b[ -/]*[0-~]?"
)
JOINERS = "\u200c\u200d"  # Persian words and emoji need them, and they change no order
EXAMINED = 32  # times the limit; what is longer before sequences and blanks are taken out isn't looked at


def printable(text: str, limit: int = 200) -> str:
    """``text`` in one line of at most ``limit`` characters, the last of them an ellipsis where it was cut.

    Terminal sequences vanish. Blanks, line ends, and whatever can't be printed or changes the order of reading (control
    characters, bidirectional marks, halves of surrogate pairs) become a blank, and several blanks become one.
    """
    cut = len(text) > limit * EXAMINED
    visible = ESCAPE_SEQUENCE.sub("", text[: limit * EXAMINED])
    line = " ".join("".join(c if c.isprintable() or c in JOINERS else " " for c in visible).split())
    return line[: limit - 1] + "…" if cut or len(line) > limit else line
