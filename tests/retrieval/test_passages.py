"""How texts are cut, and which lines a passage says it has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.retrieval.passages import MOST_CHARACTERS, passages

WORDS = " ".join(["word"] * 60)  # 299 characters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n \n", []),
        ("one\ntwo\n", [(1, 2, "one\ntwo")]),
        ("\n\none\n\n\ntwo", [(3, 6, "one\n\ntwo")]),
        (f"{WORDS}\n\n{WORDS}\n\n{WORDS}\n\n{WORDS}", [(1, 5, f"{WORDS}\n\n{WORDS}\n\n{WORDS}"), (7, 7, WORDS)]),
        (f"# A\n{WORDS}\n# B\n{WORDS}", [(1, 2, f"# A\n{WORDS}"), (3, 4, f"# B\n{WORDS}")]),
        ("# A\nshort\n# B\nshort", [(1, 4, "# A\nshort\n# B\nshort")]),
    ],
)
def test_passages(text: str, expected: list[tuple[int, int, str]]) -> None:
    assert [(passage.from_line, passage.to_line, passage.text) for passage in passages([text])] == expected


def test_lines_are_counted_through_sections_and_no_passage_has_two() -> None:
    made = list(passages(["a\nb", "c\n\nd"]))
    assert [(passage.from_line, passage.to_line) for passage in made] == [(1, 2), (3, 5)]


def test_a_long_line_is_cut_at_a_blank_and_keeps_its_number() -> None:
    line = "x" * (MOST_CHARACTERS - 5) + " and the rest"
    assert [(passage.from_line, passage.to_line) for passage in passages([f"first\n{line}"])] == [
        (1, 1),
        (2, 2),
        (2, 2),
    ]


@given(st.text(alphabet="ab #\n", max_size=4000))
def test_nothing_is_lost_and_nothing_too_long(text: str) -> None:
    made = list(passages([text]))
    assert "".join("".join(passage.text.split()) for passage in made) == "".join(text.split())
    assert all(len(passage.text) <= MOST_CHARACTERS + 2 * passage.text.count("\n") for passage in made)
    lines = text.splitlines()
    for passage in made:
        first = passage.text.split("\n")[0].strip()
        assert first in lines[passage.from_line - 1] and 1 <= passage.from_line <= passage.to_line <= len(lines)
