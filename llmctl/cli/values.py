"""Values of the command line that need no pydantic: those of their type already, and plain numbers. typer converts
every one with it, also of an option that was not given, and to import it takes a third of the time until a command
begins."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Any

from typer.core import TyperArgument, TyperOption

PLAIN = {int: re.compile(r"[0-9]{1,9}"), float: re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")}


class Unconverted:
    """Stands before typer's conversion of one parameter: ``convert`` builds that, for a value that has to be converted
    or refused."""

    def __init__(self, parameter: Any, convert: Callable[[Any], Any]) -> None:
        self._type = parameter.type_descriptor.annotation
        self._info = parameter.type_descriptor.parameter_info
        self._several = parameter.multiple or parameter.nargs != 1
        self._convert = convert

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value for the command's function. Raises what typer's conversion raises."""
        if self._several:
            taken = (
                isinstance(value, tuple | list) and self._type == list[str] and all(_is(part, str) for part in value)
            )
            if value is None:
                return ()
            return list(value) if taken else self._convert(param).coerce(value, param=param, ctx=ctx)
        if value is None or _is(value, self._type):
            return value
        plain = self._plain(value) if isinstance(value, str) else None
        return self._convert(param).coerce(value, param=param, ctx=ctx) if plain is None else plain

    def _plain(self, value: str) -> Enum | int | float | None:
        """What ``value`` names of a closed set, or the number that it is, within its limits; else None."""
        if self._type not in PLAIN:
            return _choices(self._type).get(value)
        number = self._type(value) if PLAIN[self._type].fullmatch(value) else None
        least, most = self._info.min, self._info.max
        is_within = number is not None and (least is None or number >= least) and (most is None or number <= most)
        return number if is_within else None


def _is(value: Any, type_: Any) -> bool:
    return isinstance(type_, type) and type(value) is type_


def _choices(type_: Any) -> dict[Any, Enum]:
    return {member.value: member for member in type_} if isinstance(type_, type) and issubclass(type_, Enum) else {}


def spare_conversion() -> None:
    """Puts ``Unconverted`` before the conversion of every parameter, where typer has that method."""
    for kind in (TyperArgument, TyperOption):
        if hasattr(kind, "get_runtime_param"):
            kind.get_runtime_param = _spared(kind.get_runtime_param)  # type: ignore[assignment,method-assign]


def _spared(convert: Callable[[Any], Any]) -> Callable[[Any], Unconverted]:
    return lambda parameter: Unconverted(parameter, convert)
