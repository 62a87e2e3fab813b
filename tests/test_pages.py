"""The README and the pages of docs/: short, true and without a dead link."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmctl.cli import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
MOST_WORDS = 900


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text("utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, new = set[Path](), {ROOT / "README.md"}
    while new:
        page = new.pop()
        reached.add(page)
        links = {(page.parent / link).resolve() for link in LINK.findall(page.read_text("utf-8")) if "://" not in link}
        new |= {link for link in links if link.suffix == ".md"} - reached
    assert set(PAGES) <= reached


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) < MOST_WORDS


def test_the_screen_in_the_readme_is_what_is_printed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = re.findall(
        r"^\$ llmctl (plan .*)\n\n((?:.*\n)*?)```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE
    )
    command, screen = shown
    assert main(command.split()) == 0
    assert screen in capsys.readouterr().out
