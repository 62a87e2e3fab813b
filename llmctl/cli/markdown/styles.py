"""How parts of Markdown look on a terminal, as parameters of SGR sequences. A style may be several of them."""

from __future__ import annotations

BOLD, DIM, ITALIC, LINK, STRUCK = "1", "2", "3", "4", "9"
BOLD_ITALIC = "1;3"
CODE = "36"  # cyan, which is read on dark and on light
TITLE, HEADING = "1;4", "1"

Styled = tuple[str, str]
"""A text and its style, empty for none."""


def with_style(outer: str, inner: str) -> str:
    """Both at once."""
    return ";".join(filter(None, (outer, inner)))
