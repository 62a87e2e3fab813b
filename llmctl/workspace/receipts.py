"""What left this machine: the record that ``router.receipts`` writes, read and checked."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from llmctl.errors import IntegrityError
from llmctl.router import receipts
from llmctl.router.receipts import LastReceipt
from llmctl.router.receipts import end_file as end_file
from llmctl.router.receipts import file as file
from llmctl.types.receipt import Receipt

T = TypeVar("T")
LIST = "llmctl receipts   lists those that can be read"


class Link(Struct, frozen=True):
    """What binds a receipt to the one before; see ``Receipt``."""

    number: int
    before: str | None
    sha256: str


class Record(Struct, frozen=True):
    """The receipts, the oldest first, and the numbers of the lines, from 1, that hold none."""

    receipts: tuple[Receipt, ...]
    unreadable: tuple[int, ...]


class CheckedRecord(Struct, frozen=True):
    """``lines`` are those of the record; ``error`` is the first thing that is wrong with it, at ``broken_line``, which
    is None where lines are gone from the end. ``end_checked``: it was known which receipt must be the last."""

    lines: int
    broken_line: int | None
    end_checked: bool
    error: IntegrityError | None


def read() -> Record:
    """Raises ResourceError."""
    rows = [_decoded(Receipt, line) for line in receipts.lines()]
    unreadable = tuple(number for number, row in enumerate(rows, 1) if row is None)
    return Record(tuple(row for row in rows if row is not None), unreadable)


def verify() -> CheckedRecord:
    """Whether the record holds what was written, in the order in which it was. Raises ResourceError."""
    end = receipts.kept_end()
    lines = tuple(receipts.lines())
    links = [_decoded(Link, line) for line in lines]
    before: Link | None = None
    for number, (line, link) in enumerate(zip(lines, links, strict=True), 1):
        if (fault := _fault(f"line {number} of {file()}", line, link, before, end)) is not None:
            return CheckedRecord(len(lines), number, end is not None, IntegrityError(fault, hint=LIST))
        before = link
    return CheckedRecord(len(lines), None, end is not None, _lacks_end(before, end))


def _fault(place: str, line: bytes, link: Link | None, before: Link | None, end: LastReceipt | None) -> str | None:
    """What is wrong with the line at ``place``, which comes after ``before``; None where nothing is."""
    if link is None:
        return f"{place} holds no receipt"
    if not receipts.is_as_written(line):
        return f"{place} was changed after it was written"
    last = 0 if before is None else before.number
    if link.number > last + 1:
        return f"{_gone(last + 1, link.number - 1)} from before {place}"
    if link.number <= last:
        return f"{place} is receipt {link.number} and comes after receipt {last}"
    if link.before != (None if before is None else before.sha256):
        return f"{place} was written after another receipt {last} than the one before it"
    if end is not None and link.number == end.number and link.sha256 != end.sha256:
        return f"{place} is another receipt {link.number} than {receipts.end_file()} knows"
    return None


def _lacks_end(last: Link | None, end: LastReceipt | None) -> IntegrityError | None:
    number = 0 if last is None else last.number
    if end is None or end.number <= number:
        return None
    return IntegrityError(f"{_gone(number + 1, end.number)} from the end of {file()}", hint=LIST)


def _gone(first: int, last: int) -> str:
    return f"receipt {first} is gone" if first == last else f"receipts {first} to {last} are gone"


def _decoded(kind: type[T], line: bytes) -> T | None:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.MsgspecError:
        return None
