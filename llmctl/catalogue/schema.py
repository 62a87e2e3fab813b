"""Typed reading of one table of a profile: what is there, of the right kind, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from datetime import date
from enum import StrEnum
from typing import Any, TypeVar, cast

Kind = TypeVar("Kind", bound=StrEnum)
Record = TypeVar("Record")

SHA256 = re.compile(r"[0-9a-f]{64}")
MOST = 1 << 63  # what TOML promises; Python's reader takes any number


class WrongFieldError(Exception):
    """A field that is missing, superfluous or of the wrong kind; ``expected`` completes "must be …"."""

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"{field} must be {expected}")
        self.field = field
        self.expected = expected


class Table:
    """One TOML table. What is read is taken out; ``end`` refuses whatever was not asked for.

    ``where`` is the table's own path (``model.file[2]``), put before the field's name in every complaint. A field that
    is not there is None (``*_or_none``), empty (lists and maps of values), false, or the default that is given; all
    methods raise WrongFieldError.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, Mapping):
            raise WrongFieldError(where, "a table")
        self._left: dict[str, Any] = dict(value)
        self._where = where

    def path(self, field: str) -> str:
        return f"{self._where}.{field}" if self._where else field

    def text(self, field: str) -> str:
        value = self.text_or_none(field)
        if value is None:
            raise WrongFieldError(self.path(field), "given, it is text")
        return value

    def text_or_none(self, field: str) -> str | None:
        value = self._left.pop(field, None)
        if value is not None and not (isinstance(value, str) and value.strip()):
            raise WrongFieldError(self.path(field), "text")
        return value

    def day_or_none(self, field: str) -> str | None:
        """A TOML date, or text like "2025-07" where the day isn't known."""
        value = self._left.pop(field, None)
        if isinstance(value, date):
            return value.isoformat()
        if value is not None and not (isinstance(value, str) and re.fullmatch(r"\d{4}(-\d\d){0,2}", value)):
            raise WrongFieldError(self.path(field), 'a date like 2025-07-31, or "2025-07"')
        return value

    def digest_or_none(self, field: str) -> str | None:
        value = self._left.pop(field, None)
        if value is not None and not (isinstance(value, str) and SHA256.fullmatch(value)):
            raise WrongFieldError(self.path(field), "a sha256: 64 hexadecimal digits in lower case")
        return value

    def count(self, field: str) -> int:
        value = self.count_or_none(field)
        if value is None:
            raise WrongFieldError(self.path(field), "given, it is a whole number")
        return value

    def count_or_none(self, field: str) -> int | None:
        value = self._left.pop(field, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 < value < MOST):
            raise WrongFieldError(self.path(field), "a whole number above 0, of at most 63 bits")
        return value

    def number(self, field: str) -> float:
        return float(self._number(field))

    def _number(self, field: str) -> int | float:
        value = self._left.pop(field, None)
        if isinstance(value, bool) or not isinstance(value, int | float) or not -MOST < value < MOST:  # nor is NaN
            raise WrongFieldError(self.path(field), "a number")
        return value

    def flag(self, field: str) -> bool:
        value = self._left.pop(field, False)
        if not isinstance(value, bool):
            raise WrongFieldError(self.path(field), "true or false")
        return value

    def kind(self, field: str, kinds: type[Kind], default: Kind) -> Kind:
        value = self._left.pop(field, default)
        try:
            return kinds(value)
        except ValueError:
            raise WrongFieldError(self.path(field), "one of " + ", ".join(kinds)) from None

    def texts(self, field: str) -> tuple[str, ...]:
        value = self._left.pop(field, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise WrongFieldError(self.path(field), "a list of texts")
        return tuple(value)

    def numbers(self, field: str) -> dict[str, int | float]:
        """Whole numbers stay whole: some of those who read them insist on it."""
        table = Table(self._left.pop(field, {}), self.path(field))
        return {name: table._number(name) for name in list(table._left)}

    def counts(self, field: str) -> dict[str, int]:
        table = Table(self._left.pop(field, {}), self.path(field))
        return {name: table.count(name) for name in list(table._left)}

    def text_map(self, field: str) -> dict[str, str]:
        table = Table(self._left.pop(field, {}), self.path(field))
        return {name: table.text(name) for name in list(table._left)}

    def table(self, field: str) -> Table:
        return Table(self._left.pop(field, None), self.path(field))

    def table_or_none(self, field: str) -> Table | None:
        return self.table(field) if field in self._left else None

    def tables(self, field: str) -> list[Table]:
        """A list of tables; entries are counted from 1 in complaints."""
        value = self._left.pop(field, [])
        if not isinstance(value, list):
            raise WrongFieldError(self.path(field), "a list of tables")
        return [Table(item, f"{self.path(field)}[{n}]") for n, item in enumerate(value, 1)]

    def named_tables(self) -> dict[str, Table]:
        """Every field that is left, each of them a table."""
        names = list(self._left)
        return {name: self.table(name) for name in names}

    def record(self, kind: type[Record], **given: Any) -> Record:
        """The whole table as the dataclass ``kind``: fields that are not ``given`` are read by their types."""
        for field in fields(cast(Any, kind)):
            optional = field.default is not MISSING and field.name not in self._left
            if field.name not in given and not optional:
                given[field.name] = READERS[field.type](self, field.name)
        self.end()
        return kind(**given)

    def check(self, fine: bool, field: str, expected: str) -> None:
        if not fine:
            raise WrongFieldError(self.path(field), expected)

    def end(self) -> None:
        if self._left:
            raise WrongFieldError(self.path(next(iter(self._left))), "left out: there is no such field")


READERS: Mapping[Any, Callable[[Table, str], Any]] = {
    "str": Table.text,
    "int": Table.count,
    "float": Table.number,
    "bool": Table.flag,
    "tuple[str, ...]": Table.texts,
    "Mapping[str, float]": Table.numbers,
}
"""Annotation of a dataclass's field -> how it is read."""


def position(text: str, heading: str, nth: int, field: str) -> int | None:
    """The line (from 1) of ``field`` in the ``nth`` (from 1) table of that ``heading``, or where that table begins.

    An aid for a person, found by looking for the words: None where they aren't written plainly.
    """
    lines = text.splitlines()
    starts = [n for n, line in enumerate(lines) if line.strip() == heading]
    if not 1 <= nth <= len(starts):
        return None
    start = starts[nth - 1]
    end = starts[nth] if nth < len(starts) else len(lines)
    key = re.escape(field.rsplit(".", 1)[-1].split("[")[0])
    matches: Callable[[str], object] = re.compile(rf"(^|[{{,])\s*\"?{key}\"?\s*=").search
    return next((n + 1 for n in range(start, end) if matches(lines[n])), start + 1)
