"""What `--help` shows on a terminal of 80 columns: no line is wider, and no command's summary is cut off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from llmctl.cli import main
from llmctl.cli.app import app


def commands(group: object, *before: str) -> Iterator[tuple[str, ...]]:
    yield before
    if isinstance(group, TyperGroup):
        for name, command in group.commands.items():
            yield from commands(command, *before, name)


@pytest.mark.parametrize("words", list(commands(get_command(app))), ids=lambda words: " ".join(words) or "llmctl")
def test_help_fits_a_terminal(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*words, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert [line for line in lines[1:] if line.endswith("...")] == []
