"""Texts to embed or to rank: JSON Lines or plain lines, out of files and streams."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from msgspec import Struct

from llmctl.errors import UsageError
from llmctl.printable import printable
from llmctl.workspace.given_file import opened

LIMIT_BYTES = 1 << 30  # of all texts, which are held at once
LONGEST_LINE_BYTES = 64 << 20
KINDS = 'a text, or an object with "text" and perhaps an "id"'


class GivenText(Struct, frozen=True):
    """``place`` is where it stands, for a person: "line 3 of notes.jsonl"."""

    id: str | int
    text: str
    place: str


class _Read(Struct, frozen=True):
    """As ``GivenText``, before texts without an id are numbered."""

    id: str | int | None
    text: str
    place: str


def gathered(
    arguments: Sequence[str], files: Iterable[str], stdin: BinaryIO | None, *, plain: bool = False
) -> list[GivenText]:
    """The texts of the command line, then those of ``files``, then those of ``stdin``, if it is to be read. One without
    an id has its number among all of them, from 0.

    With ``plain`` each line is a text, blank ones left out; else it is JSON. Raises UsageError for a line that is no
    text, and for more than LIMIT_BYTES; NotFoundError, AccessError and ResourceError where a file can't be read.
    """
    read = [_Read(None, text, f"text {at}") for at, text in enumerate(arguments, 1)]
    for file in files:
        with opened(file, "-f") as lines:
            read += _texts(lines, printable(file), plain=plain)
    if stdin is not None:
        read += _texts(stdin, "stdin", plain=plain)
    return [
        GivenText(number if text.id is None else text.id, text.text, text.place) for number, text in enumerate(read)
    ]


def _texts(stream: BinaryIO, name: str, *, plain: bool) -> Iterator[_Read]:
    read_bytes = number = 0
    while line := stream.readline(LONGEST_LINE_BYTES + 1):
        number, read_bytes = number + 1, read_bytes + len(line)
        place = f"line {number:,} of {name}"
        if len(line) > LONGEST_LINE_BYTES:
            raise UsageError(f"{place} is longer than {LONGEST_LINE_BYTES:,} bytes, which no context takes")
        if read_bytes > LIMIT_BYTES:
            raise UsageError(f"{name} has more than {LIMIT_BYTES:,} bytes", hint="split -l 100000 FILE")
        text = line.decode("utf-8-sig" if number == 1 else "utf-8", "replace").rstrip("\r\n")
        if text.strip():
            yield _Read(None, text, place) if plain else _json(text, place)


def _json(line: str, place: str) -> _Read:
    """Raises UsageError."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place} is not JSON", hint="--lines   takes each line as a text") from error
    text, id = (value.get("text"), value.get("id")) if isinstance(value, dict) else (value, None)
    if not isinstance(text, str):
        raise UsageError(f"{place} must be {KINDS}")
    if id is not None and type(id) not in (str, int):
        raise UsageError(f"{place}: the id must be a text or a whole number")
    return _Read(id, text, place)
