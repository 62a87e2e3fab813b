"""The comment at the top of a generated file."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

COLUMNS = 110


def comment(lines: Iterable[str], sign: str = "# ") -> Iterator[str]:
    """``lines`` behind ``sign``, the long ones broken between words, and what goes on of them set in."""
    for line in lines:
        before = line[: len(line) - len(line.lstrip())]
        yield from textwrap.wrap(
            line.strip(),
            COLUMNS,
            initial_indent=sign + before,
            subsequent_indent=f"{sign}{before}  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
