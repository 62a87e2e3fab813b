"""Names that are spelt much like one that names nothing."""

from __future__ import annotations

import pytest

from llmctl.near import did_you_mean, near

NAMES = ("Qwen3.5-4B", "qwen3.5-9b", "Gemma-4-E2B", "smollm2-135m", "Coder-qwen")


@pytest.mark.parametrize(
    ("name", "inside", "expected"),
    [
        ("qwen3.5-4b", False, ["Qwen3.5-4B", "qwen3.5-9b"]),  # in any case, the most alike first
        ("qwen", True, ["Qwen3.5-4B", "qwen3.5-9b", "Coder-qwen"]),  # what contains it, as it is listed
        ("gema-4-e2b", True, ["Gemma-4-E2B"]),
        ("zzzzzz", True, []),
        ("", True, []),
    ],
)
def test_names(name: str, inside: bool, expected: list[str]) -> None:
    assert near(name, NAMES, inside=inside) == expected


def test_no_more_than_asked_for() -> None:
    assert near("qwen", NAMES, inside=True, most=1) == ["Qwen3.5-4B"]
    assert len(near("q", NAMES, likeness=0.0)) == 3


def test_another_spelling_counts() -> None:
    assert near("RTX 3080", ["rtx3080", "rtx3090"], key=lambda name: name.lower().replace(" ", ""), likeness=0.9) == [
        "rtx3080"
    ]


def test_the_words() -> None:
    assert did_you_mean(["a", "b"]) == "; did you mean a or b?"
    assert did_you_mean([]) == ""
