"""What docs/privacy.md says has a test or a source: each paragraph, table and list is followed by a comment with it."""

from __future__ import annotations

import ast
import functools
import re

import pytest

from tests.pages.blocks import ROOT

PAGE = (ROOT / "docs" / "privacy.md").read_text("utf-8")
NO_CLAIM = ("#", "<!-- reasons a prompt", "<!-- end of reasons")
SHOWN = re.compile(r"<!-- shown by: ([^>]+) -->")
SOURCE = re.compile(r"<!-- source: [^>]+ -->")


def claims() -> list[tuple[str, str]]:
    """Each block of the page that says something, and the one after it."""
    blocks = [block for block in re.split(r"\n{2,}", PAGE.strip()) if not block.startswith(NO_CLAIM)]
    pairs = zip(blocks, [*blocks[1:], ""], strict=True)
    return [(block, after) for block, after in pairs if not (SHOWN.fullmatch(block) or SOURCE.fullmatch(block))]


@functools.cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize(("claim", "after"), claims(), ids=lambda text: text[:40])
def test_what_is_claimed_has_a_test_or_a_source(claim: str, after: str) -> None:
    shown = SHOWN.fullmatch(after)
    assert shown or SOURCE.fullmatch(after), "a comment has to follow: <!-- shown by: tests/…::test_… -->"
    for name in re.split(r",\s+", shown[1]) if shown else ():
        file, _, test = name.partition("::")
        assert test.startswith("test_") and test in names_in(file), name
