"""Lines of a chat that are commands, and those that are prompts."""

from __future__ import annotations

import pytest

from llmctl.cli.chat.actions import ACTIONS
from llmctl.cli.chat.commands import COMMANDS, Command, help_lines, parse
from llmctl.errors import UsageError


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("/quit", Command("quit", "")),
        ("/QUIT  ", Command("quit", "")),
        ("/system  Be brief.\nAnd kind. ", Command("system", "Be brief.\nAnd kind.")),
        ("/file my notes.md", Command("file", "my notes.md")),
        (" /quit", None),  # a blank makes it a prompt
        ("/usr/bin/env is what?", None),
        ("/", None),
        ("what is /quit", None),
        ("// a comment", None),
    ],
)
def test_a_command_begins_with_a_slash_and_a_word(line: str, command: Command | None) -> None:
    assert parse(line) == command


def test_a_command_that_there_is_not_is_named() -> None:
    with pytest.raises(UsageError, match="/qiut"):
        parse("/qiut now")


def test_every_command_does_something_and_is_explained() -> None:
    assert set(ACTIONS) == set(COMMANDS)
    shown = "\n".join(help_lines())
    assert all(f"/{name}" in shown for name in COMMANDS)
    assert max(len(line) for line in help_lines()[:-1]) < 80
