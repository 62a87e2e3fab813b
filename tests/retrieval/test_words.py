"""What a person types is words, whatever signs are in it."""

from __future__ import annotations

import pytest

from llmctl.retrieval.fusion import fused
from llmctl.retrieval.words import stem, words_of


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("When does the insurance end?", ("insurance", "end")),
        ("Wann läuft die Versicherung ab?", ("lauft", "versicherung", "ab")),
        ("what is it", ("what", "is", "it")),
        ('"plums" OR NOT (ripe) ^2 col:x *', ("plums", "ripe", "2", "col", "x")),
        ("東京都", ("東", "京", "都")),
        ("plum PLUM Plüm", ("plum",)),
        ("... !?", ()),
    ],
)
def test_words(question: str, words: tuple[str, ...]) -> None:
    assert words_of(question) == words


@pytest.mark.parametrize(("word", "expected"), [("plum", None), ("plums1", None), ("insurance", "insuran")])
def test_the_beginning_of_long_words_is_enough(word: str, expected: str | None) -> None:
    assert stem(word) == expected


def test_what_several_rankings_have_comes_first() -> None:
    scores = fused([1, 2, 3], [2, 4])
    assert next(iter(scores)) == 2 and set(scores) == {1, 2, 3, 4}
    assert fused([7, 8], [7]) == {7: 1.0, 8: pytest.approx(61 / 62 / 2)}
