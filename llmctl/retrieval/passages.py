"""A text, cut into passages that a search can show and a model can read, each with the lines where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

MOST_CHARACTERS = 1000  # some 250 tokens of English: an embedding model reads 256 or more
HEADING_AFTER = 300  # characters: a shorter passage goes on over a heading
HEADING = re.compile(r"#{1,6} |From |Subject: ")


class Passage(Struct, frozen=True):
    """``from_line`` and ``to_line`` count from 1."""

    from_line: int
    to_line: int
    text: str


class _Line(Struct, frozen=True):
    number: int
    text: str


def passages(sections: Iterable[str]) -> Iterator[Passage]:
    """The passages of a file whose text comes in ``sections`` (pages, mails, slides, or all of it); none goes over the
    end of a section. Lines are counted through all sections."""
    before = 0
    for section in sections:
        lines = section.splitlines()
        yield from _of_section(lines, before)
        before += len(lines)


def _of_section(lines: list[str], before: int) -> Iterator[Passage]:
    taken: list[_Line] = []
    characters = 0
    for block in _blocks(_bounded(lines, before)):
        length = sum(len(line.text) + 1 for line in block)
        is_heading = HEADING.match(block[0].text) is not None
        if taken and (characters + length > MOST_CHARACTERS or (is_heading and characters >= HEADING_AFTER)):
            yield _passage(taken)
            taken, characters = [], 0
        for line in block:
            if taken and characters + len(line.text) > MOST_CHARACTERS:
                yield _passage(taken)
                taken, characters = [], 0
            taken.append(line)
            characters += len(line.text) + 1
    if taken:
        yield _passage(taken)


def _bounded(lines: list[str], before: int) -> Iterator[_Line]:
    """The lines, longer ones in pieces that have the same number."""
    for number, line in enumerate(lines, before + 1):
        yield from (_Line(number, piece) for piece in _pieces(line.rstrip()))


def _pieces(line: str) -> Iterator[str]:
    while len(line) > MOST_CHARACTERS:
        blank = line.rfind(" ", MOST_CHARACTERS // 2, MOST_CHARACTERS)
        end = MOST_CHARACTERS if blank < 0 else blank
        yield line[:end]
        line = line[end:].lstrip()
    yield line


def _blocks(lines: Iterable[_Line]) -> Iterator[list[_Line]]:
    """Lines between blank ones; a heading begins a block."""
    block: list[_Line] = []
    for line in lines:
        is_blank = not line.text.strip()
        if block and (is_blank or HEADING.match(line.text)):
            yield block
            block = []
        if not is_blank:
            block.append(line)
    if block:
        yield block


def _passage(lines: list[_Line]) -> Passage:
    text: list[str] = []
    last = lines[0].number
    for line in lines:
        if line.number - last > 1:
            text.append("")  # where blank lines stood
        text.append(line.text)
        last = line.number
    return Passage(lines[0].number, last, "\n".join(text))
