"""Checked decoding of what others wrote: every field of the right kind, and nothing else.

``decode`` makes one of the structs of ``types`` out of plain JSON values. ``Table`` is for documents whose
fields are not those of the type that they end in: it hands out one checked field after another.
"""

from __future__ import annotations

import base64
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from datetime import date
from enum import Enum, StrEnum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from msgspec import Struct
from msgspec.structs import FieldInfo, fields

from llmctl.errors import ConfigError

T = TypeVar("T")
S = TypeVar("S", bound=Struct)
Choice = TypeVar("Choice", bound=StrEnum)

LARGEST = 1 << 63  # what TOML promises; Python's readers take any number
SHA256 = re.compile(r"[0-9a-f]{64}")


class FieldError(ValueError):
    """A field that is missing, superfluous or of the wrong kind: ``machine.cpu.name``, "must be text"."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field
        self.problem = problem


def decode(kind: type[T], value: Any, where: str) -> T:
    """``value`` as ``kind``; ``where`` stands before the names of fields in errors.

    Numbers must be finite and not negative. Raises FieldError.
    """
    return cast(T, _value(kind, value, where))


def _value(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (choice for choice in typing.get_args(kind) if choice is not types.NoneType)
        return _value(inner, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise FieldError(where, "must be a list")
        return tuple(_value(typing.get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise FieldError(where, "must be a table")
        return {key: _value(typing.get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, Struct):
        return _object(kind, value, where)
    if issubclass(kind, Enum):
        choices = [str(choice.value) for choice in kind]
        if value not in choices:
            raise FieldError(where, "must be one of " + ", ".join(choices))
        return kind(value)
    if kind is bytes:
        return _base64(value, where)
    if kind is float:
        if not _is_number(value) or not 0 <= value <= sys.float_info.max:  # nor NaN, nor a number beyond all floats
            raise FieldError(where, "must be a number, zero or more")
        return float(value)
    if kind is int:
        if not _is_whole(value) or value < 0:
            raise FieldError(where, "must be a whole number, zero or more")
        if value >= LARGEST:
            raise FieldError(where, f"must be less than {LARGEST:,}")
        return value
    if not isinstance(value, kind):
        raise FieldError(where, "must be " + {"str": "text", "bool": "true or false"}[kind.__name__])
    return value


def _base64(value: Any, where: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError) as error:
        raise FieldError(where, "must be base64") from error


def _object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise FieldError(where, "must be a table with " + ", ".join(_fields(kind)))
    by_name = _fields(kind)
    for key in value:
        if key not in by_name:
            raise FieldError(f"{where}.{key}", "is not known, there are " + ", ".join(by_name))
    for field in by_name.values():
        if field.required and field.name not in value:
            raise FieldError(f"{where}.{field.name}", "is missing")
    return kind(**{key: _value(by_name[key].type, item, f"{where}.{key}") for key, item in value.items()})


@cache
def _fields(kind: type[Struct]) -> Mapping[str, FieldInfo]:
    """The fields of a struct by their names. Looking them up anew takes longer than decoding one."""
    return {field.name: field for field in fields(kind)}


def read_toml(file: Path, read: Callable[[Table], T]) -> T:
    """What ``read`` makes of the table in ``file``, of which it must take every field. Raises ConfigError."""
    import tomli

    try:
        with file.open("rb") as stream:
            table = Table(tomli.load(stream), "")
        made = read(table)
        table.end()
        return made
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from error
    except FieldError as error:
        raise ConfigError(f"{file}: {error}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, a number too long, nesting too deep
        raise ConfigError(f"{file} is not valid TOML: {error}") from error


class Table:
    """One table of a document. What is read is taken out; ``end`` refuses whatever was not asked for.

    ``where`` is the table's own path (``model.file[2]``), put before the field's name in errors. A field that is
    missing or null is None (``*_or_none``), empty (lists and maps of values), false, or the default that is given; all
    methods raise FieldError.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, Mapping):
            raise FieldError(where, "must be a table")
        self.where = where
        self._left: dict[str, Any] = dict(value)

    def path(self, field: str) -> str:
        return f"{self.where}.{field}" if self.where else field

    def check(self, fine: bool, field: str, expected: str) -> None:
        if not fine:
            raise FieldError(self.path(field), f"must be {expected}")

    def inherit(self, shared: Table) -> None:
        """Takes what is missing here from a table that is shared by several."""
        self._left = {**shared._left, **self._left}

    def end(self) -> None:
        for field in self._left:
            raise FieldError(self.path(field), "must be left out: there is no such field")

    def fill(self, kind: type[S], **given: Any) -> S:
        """The struct of that ``kind``, its fields read by their names and types, but for those that are ``given``.

        Any other field of the table is refused.
        """
        for name, required, read in _readers(kind):
            if name not in given and (required or name in self._left):
                given[name] = read(self, name)
        self.end()
        return kind(**given)

    def _take(self, field: str, fits: Callable[[Any], object], expected: str) -> Any:
        value = self._left.pop(field, None)
        if value is not None and not fits(value):
            raise FieldError(self.path(field), f"must be {expected}")
        return value

    def _given(self, value: T | None, field: str, expected: str) -> T:
        if value is None:
            raise FieldError(self.path(field), f"must be given, it is {expected}")
        return value

    def text(self, field: str) -> str:
        return self._given(self.text_or_none(field), field, "text")

    def text_or_none(self, field: str) -> str | None:
        return cast("str | None", self._take(field, _is_text, "text"))

    def texts(self, field: str) -> tuple[str, ...]:
        return tuple(self._take(field, _are_texts, "a list of texts") or ())

    def day_or_none(self, field: str) -> str | None:
        """A TOML date, or text like "2025-07" where the day isn't known."""
        value = self._take(field, _is_day, 'a date like 2025-07-31, or "2025-07"')
        return value.isoformat() if isinstance(value, date) else value

    def digest(self, field: str) -> str:
        return self._given(self.digest_or_none(field), field, "a sha256")

    def digest_or_none(self, field: str) -> str | None:
        return cast("str | None", self._take(field, _is_digest, "a sha256: 64 hexadecimal digits in lower case"))

    def count(self, field: str) -> int:
        return self._given(self.count_or_none(field), field, "a whole number")

    def count_or_none(self, field: str) -> int | None:
        return cast("int | None", self._take(field, _is_count, "a whole number above 0, of at most 63 bits"))

    def several_counts(self, field: str) -> tuple[int, ...]:
        """One whole number or a list of them."""
        value = self._take(field, _are_counts, "a whole number above 0, or a list of them")
        return tuple(value or ()) if isinstance(value, list | None) else (value,)

    def number(self, field: str) -> float:
        return float(self._number(field))

    def _number(self, field: str) -> int | float:
        value = self._take(field, lambda value: _is_number(value) and -LARGEST < value < LARGEST, "a number")
        self.check(value is not None, field, "a number")
        return cast(float, value)

    def positive_or_none(self, field: str) -> int | float | None:
        return cast("float | None", self._take(field, _is_positive, "a number above 0"))

    def flag(self, field: str) -> bool:
        return bool(self._take(field, lambda value: isinstance(value, bool), "true or false"))

    def kind(self, field: str, kinds: type[Choice], default: Choice | None = None) -> Choice:
        return kinds(self.one_of(field, tuple(kinds), default))

    def one_of(self, field: str, choices: tuple[str, ...], default: str | None = None) -> str:
        value = self._left.pop(field, default)
        self.check(isinstance(value, str) and value in choices, field, "one of " + ", ".join(choices))
        return cast(str, value)

    def numbers(self, field: str) -> dict[str, int | float]:
        """Numbers by name. Whole numbers stay whole: some of those who read them insist on it."""
        return self._map(field, Table._number)

    def counts(self, field: str) -> dict[str, int]:
        return self._map(field, Table.count)

    def text_map(self, field: str) -> dict[str, str]:
        return self._map(field, Table.text)

    def _map(self, field: str, read: Callable[[Table, str], T]) -> dict[str, T]:
        table = Table(self._left.pop(field, {}), self.path(field))
        return {name: read(table, name) for name in list(table._left)}

    def table(self, field: str) -> Table:
        return Table(self._left.pop(field, None), self.path(field))

    def table_or_none(self, field: str) -> Table | None:
        return self.table(field) if field in self._left else None

    def tables(self, field: str) -> list[Table]:
        """A list of tables; entries are counted from 1 in errors."""
        value = self._take(field, lambda value: isinstance(value, list), "a list of tables") or []
        return [Table(item, f"{self.path(field)}[{n}]") for n, item in enumerate(value, 1)]

    def structs(self, field: str, kind: type[S]) -> tuple[S, ...]:
        return tuple(row.fill(kind) for row in self.tables(field))

    def named_structs(self, field: str, kind: type[S]) -> dict[str, S]:
        return {name: row.fill(kind) for name, row in self.table(field).named_tables().items()}

    def named_tables(self) -> dict[str, Table]:
        """Every field that is left, each of them a table."""
        return {name: self.table(name) for name in list(self._left)}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and 0 < value < LARGEST


def _is_count(value: Any) -> bool:
    return _is_whole(value) and 0 < value < LARGEST


def _are_counts(value: Any) -> bool:
    return all(map(_is_count, value if isinstance(value, list) else [value]))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _is_day(value: Any) -> bool:
    return isinstance(value, date) or (isinstance(value, str) and bool(re.fullmatch(r"\d{4}(-\d\d){0,2}", value)))


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and bool(SHA256.fullmatch(value))


READERS: Mapping[Any, Callable[[Table, str], Any]] = {
    str: Table.text,
    str | None: Table.text_or_none,
    int: Table.count,
    int | None: Table.count_or_none,
    float: Table.number,
    bool: Table.flag,
    tuple[str, ...]: Table.texts,
    Mapping[str, str]: Table.text_map,
    Mapping[str, float]: Table.numbers,
}
"""The method of Table that reads a struct's field, by the field's type."""


@cache
def _readers(kind: type[Struct]) -> tuple[tuple[str, bool, Callable[[Table, str], Any]], ...]:
    """Of each field of a struct its name, whether it is required, and what reads it."""
    return tuple((field.name, field.required, READERS.get(field.type) or _reader(field.type)) for field in fields(kind))


def _reader(kind: Any) -> Callable[[Table, str], Any]:
    """Of a tuple of structs, or a StrEnum."""
    if typing.get_origin(kind) is tuple:
        return lambda table, field: table.structs(field, typing.get_args(kind)[0])
    return lambda table, field: table.kind(field, kind)
