"""Templates of prompts: whose counts, and where the prompt goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmctl.errors import NotFoundError, UsageError
from llmctl.workspace import templates


def write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_the_user_s_own_wins_over_the_folder_s(home: Path) -> None:
    own, project = templates.folders()
    write(project, "ask.md", "from the folder: {{input}}")
    assert templates.find("ask").is_project
    write(own, "ask.txt", "my own: {{ input }}")
    assert not templates.find("ask").is_project
    assert templates.find("ask").filled("a\\1{{input}}") == "my own: a\\1{{input}}"
    assert templates.names() == ["ask"]


@pytest.mark.parametrize("name", ["../ask", "a/b", "", ".hidden", "a\nb", "-x"])
def test_a_name_leads_nowhere_else(home: Path, name: str) -> None:
    with pytest.raises(UsageError):
        templates.find(name)


def test_one_that_is_not_there_is_said_with_those_that_are(home: Path) -> None:
    write(templates.folders()[0], "ask.md", "x")
    with pytest.raises(NotFoundError, match=r"no template other \(ask\)"):
        templates.find("other")
