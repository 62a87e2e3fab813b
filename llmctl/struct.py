"""Structs (frozen, see ``msgspec.Struct``) as plain data."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


def asdict(struct: Struct) -> dict[str, Any]:
    """Fields by name, structs within them as dicts, too."""
    return {name: _plain(getattr(struct, name)) for name in struct.__struct_fields__}


def _plain(value: Any) -> Any:
    if isinstance(value, Struct):
        return asdict(value)
    if isinstance(value, tuple | list):
        return type(value)(map(_plain, value))
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, dict) else value
