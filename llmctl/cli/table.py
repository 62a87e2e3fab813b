"""Text in columns and in lines: how wide it is on a terminal, and where it is broken."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

CONTINUED = 2  # blanks before what goes on of a row
LEAST_COLUMN = 20  # a last column that is narrower than this is not broken: it would be one word a line


def table(rows: Iterable[Sequence[str]], sides: str, *, gap: int = 2, indent: int = 0) -> Iterator[str]:
    """Lines of columns, each as wide as its widest cell, ``gap`` blanks between them; ``sides``: < or > for each.

    On a terminal the last column goes on below itself where the line would be too long; where there is no room for that
    either, each row is its cells one behind the other, on as many lines as they take.
    """
    cells = list(rows)
    widths = [max((width(row[column]) for row in cells), default=0) for column in range(len(sides))]
    before = indent + sum(widths[:-1]) + gap * (len(widths) - 1)
    columns = columns_of(sys.stdout)
    room = columns - before
    if max((before + width(row[-1]) for row in cells), default=0) > columns and room < LEAST_COLUMN:
        for row in cells:
            yield from _packed(row, columns, gap, indent)
        return
    for row in cells:
        *padded, last = (_padded(*cell) for cell in zip(row, sides, widths, strict=True))
        parts = [last] if width(last.rstrip()) <= room else wrapped(last, room).split("\n")
        yield (" " * indent + (" " * gap).join([*padded, parts[0]])).rstrip()
        yield from (" " * before + part for part in parts[1:])


def _packed(row: Sequence[str], columns: int, gap: int, indent: int) -> Iterator[str]:
    """The cells that have something in them, on lines of at most ``columns`` where no cell alone is longer."""
    line = ""
    for cell in filter(None, map(str.strip, row)):
        joined = f"{line}{' ' * gap}{cell}" if line else " " * indent + cell
        if line and width(joined) > columns:
            yield line
            joined = " " * (indent + CONTINUED) + cell
        line = joined
    yield line


def width(text: str) -> int:
    """Columns of a terminal: two for a wide character, none for a mark above another."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    return sum(
        0 if category(char) in ("Mn", "Me", "Cf") else 2 if east_asian_width(char) in ("W", "F") else 1 for char in text
    )


def wrapped(text: str, columns: int, *, first: str = "", indent: str = "") -> str:
    """``text`` broken between words into lines of at most ``columns``; the first begins with ``first``, the others with
    ``indent``. A longer word stays whole: it may be a path, or a command."""
    return "\n".join(
        textwrap.wrap(
            text,
            columns,
            initial_indent=first,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        or [first.rstrip()]
    )


def _padded(cell: str, side: str, columns: int) -> str:
    blanks = " " * (columns - width(cell))
    return blanks + cell if side == ">" else cell + blanks


def columns_of(stream: TextIO) -> int:
    """How wide a terminal is; what goes elsewhere is never broken."""
    return shutil.get_terminal_size().columns if stream.isatty() else 1_000_000
