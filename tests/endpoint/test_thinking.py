"""Thoughts and answer are told apart however the text is cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmctl.endpoint.thinking import ThoughtSplitter
from llmctl.types.answer import PieceKind


def split(bits: Sequence[str]) -> tuple[str, str]:
    """(reasoning, text) of all pieces. No piece is empty, and no reasoning follows text."""
    splitter = ThoughtSplitter()
    pieces = [piece for bit in bits for piece in splitter.feed(bit)] + splitter.end()
    assert all(piece.text for piece in pieces)
    kinds = [piece.kind for piece in pieces]
    assert kinds == sorted(kinds, key=[PieceKind.REASONING, PieceKind.TEXT].index)
    reasoning, text = (
        "".join(piece.text for piece in pieces if piece.kind is kind) for kind in (PieceKind.REASONING, PieceKind.TEXT)
    )
    return reasoning, text


@pytest.mark.parametrize(
    ("whole", "reasoning", "text"),
    [
        ("", "", ""),
        ("Hello", "", "Hello"),
        ("  Hello ", "", "  Hello "),
        (" \n", "", " \n"),
        ("<think>a</think>b", "a", "b"),
        ("\n <think>a</think>\n\nb\n", "a", "b\n"),
        ("<think></think>b", "", "b"),
        ("<think>\n\n</think>\n\nb", "\n\n", "b"),
        ("<think>a", "a", ""),
        ("<think>a</thi", "a</thi", ""),
        ("<think>a</think>", "a", ""),
        ("<think>a</think> \n", "a", ""),
        ("<thin", "", "<thin"),
        ("<thinking>", "", "<thinking>"),
        ("< think>a</think>", "", "< think>a</think>"),
        ("Hi <think>a</think>", "", "Hi <think>a</think>"),
        ("a</think>b", "", "a</think>b"),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        ("<think>a<think>b</think>c", "a<think>b", "c"),
        ("<think>a<</think>b", "a<", "b"),
        ("<think>a</think</think>b", "a</think", "b"),
        ("<think>1 < 2 </ 3</think>b", "1 < 2 </ 3", "b"),
    ],
)
def test_table(whole: str, reasoning: str, text: str) -> None:
    assert split([whole]) == (reasoning, text)
    assert split(list(whole)) == (reasoning, text)
    for cut in range(len(whole)):
        assert split([whole[:cut], "", whole[cut:]]) == (reasoning, text)


TEXT = st.lists(
    st.sampled_from(["<think>", "</think>", "<th", "ink>", "</", "<", ">", "think", "\n", " ", "a", "ü😀"]), max_size=12
).map("".join)


@given(whole=TEXT, cuts=st.lists(st.integers(0, 60), max_size=8))
@example(whole="<think>a</think>\n\nb", cuts=[3, 10, 17, 18])
def test_any_way_of_cutting_gives_the_same(whole: str, cuts: list[int]) -> None:
    borders = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    bits = [whole[begin:end] for begin, end in pairwise(borders)]
    assert "".join(bits) == whole
    assert split(bits) == split([whole])


@given(whole=TEXT)
def test_what_is_meant(whole: str) -> None:
    """The rule in one line each, for a text that is there as a whole."""
    if not whole.lstrip().startswith("<think>"):
        assert split([whole]) == ("", whole)
        return
    thoughts, _, answer = whole.lstrip().removeprefix("<think>").partition("</think>")
    assert split([whole]) == (thoughts, answer.lstrip())


@pytest.mark.parametrize(("bits", "certain"), [(["<thi"], 0), (["<think>ab</th"], 1), (["x"], 1), (["<thx"], 1)])
def test_what_is_certain_does_not_wait(bits: list[str], certain: int) -> None:
    splitter = ThoughtSplitter()
    assert len([piece for bit in bits for piece in splitter.feed(bit)]) == certain


def test_no_more_is_held_back_than_a_tag() -> None:
    splitter = ThoughtSplitter()
    (piece,) = splitter.feed("<think>" + "thought " * 1000 + "</thin")
    assert piece.text == "thought " * 1000
