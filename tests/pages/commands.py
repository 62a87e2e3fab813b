"""Every command of llmctl with its help, as the pages and the manual need it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from typer.core import TyperGroup
from typer.main import get_command

from llmctl.cli.app import app

COLUMNS = 80


class DescribedCommand(Struct, frozen=True):
    """``path`` is what is typed, ``summary`` the first sentence, ``text`` the paragraphs below it as they were written;
    ``arguments`` and ``options`` have the spelling and the help of each."""

    path: str
    usage: str
    summary: str
    text: str
    arguments: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str], ...]
    help: str
    is_group: bool


def described() -> Iterator[DescribedCommand]:
    """``llmctl`` itself first, then every command that is not hidden, groups before what is in them."""
    root = get_command(app)
    yield from _below(root, root.make_context("llmctl", [], resilient_parsing=True, terminal_width=COLUMNS))


def _below(command: Any, context: Any) -> Iterator[DescribedCommand]:
    yield _described(command, context)
    if isinstance(command, TyperGroup):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                below = inner.make_context(name, [], parent=context, resilient_parsing=True, terminal_width=COLUMNS)
                yield from _below(inner, below)


def _described(command: Any, context: Any) -> DescribedCommand:
    summary, _, text = (command.help or "").partition("\n\n")
    records = [(each.param_type_name, each.get_help_record(context)) for each in command.get_params(context)]
    return DescribedCommand(
        path=context.command_path,
        usage=" ".join(command.collect_usage_pieces(context)),
        summary=" ".join(summary.split()),
        text=text,
        arguments=tuple(record for kind, record in records if kind == "argument" and record),
        options=tuple(record for kind, record in records if kind == "option" and record),
        help=command.get_help(context),
        is_group=isinstance(command, TyperGroup),
    )
