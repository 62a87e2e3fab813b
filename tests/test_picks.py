"""The table of picks in the docs is what the program picks."""

from __future__ import annotations

from llmctl import paths
from tests import picks


def test_the_picks_are_what_the_program_picks() -> None:
    assert (paths.profiles_dir() / "PICKS.md").read_text("utf-8") == picks.text()
    assert {file.stem for file in (paths.profiles_dir() / "machines").iterdir()} >= picks.MACHINES.keys()
