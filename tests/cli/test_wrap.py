"""Streamed text breaks between words, however it is cut into bits."""

from __future__ import annotations

import pytest

from llmctl.cli.wrap import CodeWrap, WordWrap

CASES = {
    "short": ("one two", "one two"),
    "words": ("one two three four", "one two\nthree four"),
    "a word as long as the line": ("abcdefghij x", "abcdefghij\nx"),
    "a longer word": ("x abcdefghijklmno y", "x\nabcdefghijklmno\ny"),
    "lines of its own": ("one\n\ntwo\n", "one\n\ntwo\n"),
    "indented": ("  one two three", "  one two\nthree"),
    "code": ("a\n```\nx = one + two + three\n```\nfour five six", "a\n```\nx = one + two + three\n```\nfour five\nsix"),
    "wide": ("你好世界你好世界", "你好世界你\n好世界"),
    "right to left": ("שלום עולם טוב", "שלום עולם\nטוב"),
    "Chinese marks end a line": ("你好世界你，好世界", "你好世界\n你，好世界"),
    "emoji of several": ("ab cde 👩\u200d👩\u200d👧👍🏽🇩🇪", "ab cde 👩\u200d👩\u200d👧\n👍🏽🇩🇪"),
    "accents that combine": ("e\u0301e\u0301e\u0301 abc def", "e\u0301e\u0301e\u0301 abc\ndef"),
}


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(("text", "shown"), CASES.values(), ids=CASES)
def test_lines_break_between_words(text: str, shown: str, size: int) -> None:
    wrap = CodeWrap(lambda: 10)
    bits = [text[at : at + size] for at in range(0, len(text), size)]
    assert "".join(map(wrap.add, bits)) + wrap.end() == shown


def test_a_word_is_written_when_its_end_has_come() -> None:
    wrap = WordWrap(lambda: 10)
    assert wrap.add("wo") == ""
    assert wrap.add("rd ") == "word"
    assert wrap.add("x\n") == " x\n"


def test_a_terminal_that_is_resized_breaks_at_its_new_width() -> None:
    columns = 10
    wrap = WordWrap(lambda: columns)
    written = wrap.add("one two ")
    columns = 20
    assert written + wrap.add("three four five ") + wrap.end() == "one two three four\nfive "
