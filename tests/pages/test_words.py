"""Every ``llmctl …`` that the pages and the help mention is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from llmctl.cli.app import app
from tests.pages.blocks import PAGES, blocks
from tests.pages.commands import described

FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:[^`\n]|\n(?!\n))*)`")
EXAMPLE = re.compile(r"^  (.*\bllmctl .*)$", re.MULTILINE)
COMMENT = re.compile(r"\s#\s.*")
OPTION = re.compile(r"--?[a-z][a-z-]*(=.*)?")
SETS_APART = {"\\|": "|", "$(": " $( ", ";": " ; "}
ENDS_COMMAND = ("|", ";", "&&", ">", "<", ">>", "…", "&")
ROOT: Any = get_command(app)


def mentioned(page: Path) -> Iterator[str]:
    """The lines of code in the text of ``page``, and those of its blocks of commands."""
    for code in INLINE.findall(FENCED.sub("", page.read_text("utf-8"))):
        if not code.startswith("from llmctl"):
            yield " ".join(code.split())
    for block in blocks(page):
        if block.kind in ("sh", "console"):
            yield from block.text.splitlines()


def commands(line: str) -> Iterator[list[str]]:
    """The words of each llmctl in ``line`` of a shell, up to what ends it."""
    line = COMMENT.sub("", line)
    for together, apart in SETS_APART.items():
        line = line.replace(together, apart)
    try:
        words = shlex.split(line)
    except ValueError:  # a part of what goes over several lines
        return
    while "llmctl" in words:
        words = words[words.index("llmctl") + 1 :]
        ends = (n for n, word in enumerate(words) if word in ENDS_COMMAND or word.startswith("2>"))
        end = next(ends, len(words))
        yield words[:end]
        words = words[end:]


def refused(words: list[str]) -> str | None:
    """The command or option that there is not; None where there are all."""
    command, context = ROOT, ROOT.make_context("llmctl", [], resilient_parsing=True)
    while words and hasattr(command, "get_command") and not words[0].startswith("-"):
        name, *words = words
        command = command.get_command(context, name)
        if command is None:  # NAME and the like stand for something
            return f"no command {name}" if name.islower() and name.isalpha() else None
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
    if context.ignore_unknown_options:
        return None
    options = {option for each in command.get_params(context) for option in (*each.opts, *each.secondary_opts)}
    given = [word.partition("=")[0] for word in words if OPTION.fullmatch(word)]
    unknown = [option for option in given if option not in options]
    return f"no option {', '.join(unknown)}" if unknown else None


def wrong(lines: Iterator[str]) -> list[tuple[str, str]]:
    return [(line, why) for line in lines for words in commands(line) if (why := refused(words))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_text(page: Path) -> None:
    assert wrong(mentioned(page)) == []


def test_commands_in_the_help() -> None:
    lines = [line for command in described() for line in EXAMPLE.findall(command.text)]
    assert len(lines) > 50
    assert wrong(iter(lines)) == []


def test_what_is_wrong_is_seen() -> None:
    assert refused(["rum", "hi"]) == "no command rum"
    assert refused(["run", "--no-such", "hi"]) == "no option --no-such"
    assert list(commands("git diff | llmctl run -q Hi | less; llmctl ps")) == [["run", "-q", "Hi"], ["ps"]]
