"""Values of the command line that are of their type already. typer converts every one with pydantic, also of an option
that was not given, and to import pydantic takes a third of the time until a command begins."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from typer.core import TyperArgument, TyperOption


class Unconverted:
    """Stands before typer's conversion of one parameter: ``convert`` builds that, for a value that has to be converted
    or refused."""

    def __init__(self, parameter: Any, convert: Callable[[Any], Any]) -> None:
        self._type = parameter.type_descriptor.annotation
        self._several = parameter.multiple or parameter.nargs != 1
        self._convert = convert

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value for the command's function. Raises what typer's conversion raises."""
        if self._several:
            taken = isinstance(value, tuple | list) and self._type == list[str] and all(_is(one, str) for one in value)
            return list(value) if taken else self._convert(param).coerce(value, param=param, ctx=ctx)
        if value is None or _is(value, self._type):
            return value
        choice = _choices(self._type).get(value) if isinstance(value, str) else None
        return self._convert(param).coerce(value, param=param, ctx=ctx) if choice is None else choice


def _is(value: Any, type_: Any) -> bool:
    return isinstance(type_, type) and type(value) is type_


def _choices(type_: Any) -> dict[Any, Enum]:
    return {one.value: one for one in type_} if isinstance(type_, type) and issubclass(type_, Enum) else {}


def spare_conversion() -> None:
    """Puts ``Unconverted`` before the conversion of every parameter, where typer has that method."""
    for kind in (TyperArgument, TyperOption):
        if hasattr(kind, "get_runtime_param"):
            kind.get_runtime_param = _spared(kind.get_runtime_param)  # type: ignore[assignment,method-assign]


def _spared(convert: Callable[[Any], Any]) -> Callable[[Any], Unconverted]:
    return lambda parameter: Unconverted(parameter, convert)
