"""Plain JSON values into the structs of ``types``, each field checked: for what others wrote."""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar, cast

from msgspec import Struct
from msgspec.structs import fields

T = TypeVar("T")

LARGEST = 1 << 63


class MismatchError(ValueError):
    """What is wrong with the value at ``where`` (``machine.cpu.name``): "is missing", "must be text"."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where} {problem}")
        self.where = where


def decode(kind: type[T], value: Any, where: str) -> T:
    """``value`` as ``kind``. Raises MismatchError; numbers must be finite and not negative, fields must be known."""
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
            raise MismatchError(where, "must be a list")
        return tuple(_value(typing.get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise MismatchError(where, "must be a table")
        return {key: _value(typing.get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, Struct):
        return _object(kind, value, where)
    if issubclass(kind, Enum):
        choices = [str(choice.value) for choice in kind]
        if value not in choices:
            raise MismatchError(where, "must be one of " + ", ".join(choices))
        return kind(value)
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= sys.float_info.max:  # nor NaN, nor a whole number beyond all floats
            raise MismatchError(where, "must be a number, zero or more")
        return float(value)
    if kind is int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise MismatchError(where, "must be a whole number, zero or more")
        if value >= LARGEST:
            raise MismatchError(where, f"must be less than {LARGEST:,}")
        return value
    if not isinstance(value, kind):
        raise MismatchError(where, "must be " + {"str": "text", "bool": "true or false"}[kind.__name__])
    return value


def _object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise MismatchError(where, "must be a table with " + ", ".join(f.name for f in fields(kind)))
    known = {f.name: f for f in fields(kind)}
    for key in value:
        if key not in known:
            raise MismatchError(f"{where}.{key}", "is not known, there are " + ", ".join(known))
    for field in known.values():
        if field.required and field.name not in value:
            raise MismatchError(f"{where}.{field.name}", "is missing")
    return kind(**{key: _value(known[key].type, item, f"{where}.{key}") for key, item in value.items()})
