"""``docs/llmctl.1``: the manual page, from the help of every command, the table of settings and the tree of errors."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from llmctl import __version__
from llmctl.settings import SETTINGS
from tests.pages.commands import DescribedCommand, described
from tests.pages.tables import exit_codes

WIDTH = 72  # without the escapes; some readers of manuals want no line of more than 80
RAW = "\b"
"""The mark of a paragraph whose lines stay as they are."""

FILES = (
    ("~/.config/llmctl/config.toml", "settings and endpoints (llmctl config path)"),
    ("~/.config/llmctl/models/", "models of your own for the catalogue"),
    ("llmctl.toml", "settings of a project, in the working directory or above"),
    ("~/.cache/huggingface/hub/", "models from the hub, laid out as its own tools do it"),
    ("~/.local/share/llmctl/", "other models, receipts, what runs took of memory and time"),
    ("~/.cache/llmctl/", "what can be measured or fetched again"),
)


def text() -> str:
    root, *commands = described()
    lines = [
        f'.TH LLMCTL 1 "" "llmctl {__version__}" "User Commands"',
        ".SH NAME",
        f"llmctl \\- {_plain(root.summary[:1].lower() + root.summary[1:].rstrip('.'))}",
        ".SH SYNOPSIS",
        ".B llmctl",
        _plain(root.usage),
        ".SH DESCRIPTION",
        _plain(root.summary),
        *_paragraphs(root.text),
        ".SH OPTIONS",
        *_parameters(root.options),
        ".SH COMMANDS",
        *(line for command in commands if not command.is_group for line in _command(command)),
        ".SH EXIT STATUS",
        *_entries((str(code), meaning) for code, meaning in exit_codes()),
        ".SH ENVIRONMENT",
        "Each setting of config.toml has a variable, which wins over the file.",
        *_entries((" ".join((each.variable, *each.also)), each.help) for each in SETTINGS),
        ".SH FILES",
        *_entries(FILES),
        ".SH SEE ALSO",
        "docs/ in the sources of llmctl; llmctl COMMAND \\-\\-help",
    ]
    return "\n".join(lines) + "\n"


def _command(command: DescribedCommand) -> Iterator[str]:
    yield f".SS {_plain(command.path)} {_plain(command.usage)}"
    yield _plain(command.summary)
    yield from _paragraphs(command.text)
    yield from _parameters((*command.arguments, *command.options))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in filter(None, text.strip("\n").split("\n\n")):
        lines = paragraph.strip("\n").split("\n")
        yield ".PP"
        if lines[0] == RAW:
            yield from (".nf", *map(_plain, lines[1:]), ".fi")
        else:
            yield from map(_plain, textwrap.wrap(" ".join(lines), WIDTH, break_on_hyphens=False))


def _parameters(records: tuple[tuple[str, str], ...]) -> Iterator[str]:
    return _entries((spelling, words) for spelling, words in records if spelling != "-h, --help")


def _entries(entries: Iterator[tuple[str, str]] | tuple[tuple[str, str], ...]) -> Iterator[str]:
    for name, words in entries:
        yield from (".TP", f".B {_plain(name)}", *map(_plain, textwrap.wrap(words, WIDTH, break_on_hyphens=False)))


def _plain(text: str) -> str:
    """``text`` without a meaning for roff. A line of it that begins with a dot or an apostrophe stays text."""
    escaped = text.strip("\n").replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
