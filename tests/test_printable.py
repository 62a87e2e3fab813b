"""Whatever comes in, one short line comes out that can neither drive a terminal nor change the order of reading."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.printable import JOINERS, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Not Found", "Not Found"),
        ("modèle 模型 مرحبا 👩\u200d🔧", "modèle 模型 مرحبا 👩\u200d🔧"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("\x90payload\x9ctext", "text"),
        ("\x1bctext", "text"),
        ("one\r\ntwo\tthree\x00four\x85five\u2028six", "one two three four five six"),
        ("safe\u202egnp.exe", "safe gnp.exe"),
        *((f"a{mark}b", "a b") for mark in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"),
        ("half \ud83d of a pair", "half of a pair"),
        ("  blanks \xa0 around ", "blanks around"),
        ("", ""),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(("length", "shown"), [(5, "xxxxx"), (6, "xxxx…"), (100_000, "xxxx…")])
def test_the_limit(length: int, shown: str) -> None:
    assert printable("x" * length, 5) == shown


@given(st.text(st.characters(), max_size=300), st.integers(1, 50))
def test_nothing_in_it_drives_a_terminal(text: str, limit: int) -> None:
    line = printable(text, limit)
    assert len(line) <= limit
    assert all(c in JOINERS or unicodedata.category(c)[0] != "C" for c in line)
    assert line == " ".join(line.split(" "))
    assert printable(line, limit) == line
    line.encode()


@pytest.mark.parametrize("bit", ["\x1b", "\x1b[", "\x1b]", "\x90", " ", "x", "\x1b[" + "0" * 50])
def test_megabytes_take_no_time(bit: str) -> None:
    begun = time.process_time()
    assert len(printable(bit * 1_000_000)) <= 200
    assert time.process_time() - begun < 0.5
