"""Commands that are imported and built when they are asked for: to build all takes longer than to run most."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter

SUMMARY_CHARACTERS = 200  # of a command: its whole first sentence


class LazyCommands(MutableMapping[str, "Command"]):
    """Commands by name. ``places`` has for each its ``module:function``, or ``module:app`` for a group."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)
        self._built: dict[str, Command] = {}

    def __getitem__(self, name: str) -> Command:
        if name not in self._built:
            self._built[name] = _command(name, self._places[name])
        return self._built[name]

    def __setitem__(self, name: str, command: Command) -> None:
        self._places[name], self._built[name] = "", command

    def __delitem__(self, name: str) -> None:
        del self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class PlainGroup(TyperGroup):
    """A group whose help has the whole first sentence of each command, on as many lines as it takes."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(SUMMARY_CHARACTERS)) for name, command in commands if command]
            )


def application(places: Mapping[str, str], **options: Any) -> typer.Typer:
    """A group with the commands of ``places``, as ``LazyCommands`` has them. ``options`` are those of Typer."""

    class LazyGroup(PlainGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = LazyCommands(places)

    return plain(cls=LazyGroup, callback=_nothing, **options)


def plain(**options: Any) -> typer.Typer:
    """A Typer as all of llmctl's are."""
    options.setdefault("cls", PlainGroup)
    return typer.Typer(
        add_completion=False,  # `llmctl completion SHELL` prints scripts that also know about ":" in names
        pretty_exceptions_enable=False,  # a bug of ours shows Python's own traceback, without anybody's data
        rich_markup_mode=None,  # plain help: half the start-up time, and it reads the same everywhere
        **options,
    )


def _nothing() -> None:
    """Makes typer take a group for one that has no command yet."""


@functools.cache
def _command(name: str, place: str) -> Command:
    """Built once a process: it takes ten milliseconds, and keeps nothing of a call."""
    module, _, attribute = place.partition(":")
    target = getattr(import_module(module), attribute)
    if isinstance(target, typer.Typer):
        command = get_command(target)
        command.name = name
        return command
    alone = plain()
    alone.command(name)(target)
    return get_command(alone)
