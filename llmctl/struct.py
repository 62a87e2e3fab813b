"""Structs (frozen data, see ``msgspec.Struct``) as plain data. What has no struct to show doesn't import msgspec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msgspec import Struct


def names_of(value: object) -> tuple[str, ...] | None:
    """The names of a struct's fields; None for what is no struct."""
    return None if isinstance(value, type) else getattr(value, "__struct_fields__", None)


def asdict(struct: Struct) -> dict[str, Any]:
    """Fields by name, structs within them as dicts, too."""
    return {name: _plain(getattr(struct, name)) for name in struct.__struct_fields__}


def _plain(value: Any) -> Any:
    if names_of(value) is not None:
        return asdict(value)
    if isinstance(value, tuple | list):
        return type(value)(map(_plain, value))
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, dict) else value
