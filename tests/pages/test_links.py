"""The README and the pages of docs/: short, and without a dead link."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages.blocks import PAGES, ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
MOST_WORDS = 900


def links(page: Path) -> list[tuple[Path, str]]:
    """The files that ``page`` links to, each with the anchor, empty without one."""
    targets = [link.partition("#") for link in LINK.findall(page.read_text("utf-8")) if "://" not in link]
    return [((page.parent / file).resolve() if file else page, anchor) for file, _, anchor in targets]


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link, by the rules that GitHub and the site share."""
    headings = HEADING.findall(page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    dead = [(file.name, anchor) for file, anchor in links(page) if not file.exists()]
    assert dead == []
    assert [(file.name, anchor) for file, anchor in links(page) if anchor and anchor not in anchors(file)] == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, new = set[Path](), {ROOT / "README.md"}
    while new:
        page = new.pop()
        reached.add(page)
        new |= {file for file, _ in links(page) if file.suffix == ".md"} - reached
    assert set(PAGES) <= reached


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) < MOST_WORDS
