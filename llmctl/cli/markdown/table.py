"""A table of Markdown, drawn for a terminal once its last row is there."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal

from llmctl.cli.markdown import styles
from llmctl.cli.markdown.inline import pieces
from llmctl.cli.wrap import painted

if TYPE_CHECKING:
    from rich.text import Text

DELIMITER = re.compile(r"\|?(?:[ \t]*:?-+:?[ \t]*(?:\||$))+[ \t]*")
LINE_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)  # the only way to have one in a cell
BETWEEN_CELLS = re.compile(r"(?<!\\)\|")

Side = Literal["left", "center", "right"]


def table(rows: Sequence[str], columns: int) -> list[str]:
    """Lines of at most ``columns``, cells broken between words; the rows as they are if they are no table."""
    if len(rows) < 2 or DELIMITER.fullmatch(rows[1]) is None:
        return list(rows)
    from rich import box
    from rich.console import Console
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="")
    heads, delimiters, *others = map(_cells, rows)
    for head, delimiter in zip_longest(heads, delimiters, fillvalue=""):
        drawn.add_column(_shown(head, styles.HEADING), justify=_side(delimiter), overflow="fold")
    for cells in others:
        drawn.add_row(*map(_shown, cells))
    out = io.StringIO()
    Console(file=out, width=columns, force_terminal=True, color_system="standard", legacy_windows=False).print(drawn)
    return [line.rstrip() for line in out.getvalue().split("\n") if line.strip()]


def _cells(row: str) -> list[str]:
    inner = row.strip().removeprefix("|")
    cells = BETWEEN_CELLS.split(inner)
    if len(cells) > 1 and not cells[-1].strip():
        cells.pop()
    return [LINE_BREAK.sub("\n", cell.strip()) for cell in cells]


def _side(cell: str) -> Side:
    if cell.endswith(":"):
        return "center" if cell.startswith(":") else "right"
    return "left"


def _shown(cell: str, style: str = "") -> Text:
    from rich.text import Text

    return Text.from_ansi("".join(painted(text, own) for text, own in pieces(cell, style)))
