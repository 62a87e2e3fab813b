"""Thoughts and answer are told apart however the text is cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmctl.thoughts.marks import Marks, guessed_for, marks_for, may_be_opened_for, opened_at_the_end, table
from llmctl.thoughts.splitter import ThoughtSplitter
from llmctl.types.event import Reasoning, Text, ThoughtsSoFar, Words

ROWS = marks_for("some-model")


def collected(pieces: Sequence[Words]) -> tuple[str, str]:
    """(reasoning, text) as whoever collects the pieces has them in the end."""
    reasoning, text = "", ""
    for piece in pieces:
        if isinstance(piece, ThoughtsSoFar):
            reasoning, text = reasoning + text, ""
            continue
        assert piece.text
        if isinstance(piece, Reasoning):
            reasoning += piece.text
        else:
            text += piece.text
    return reasoning, text


def split(bits: Sequence[str], *, model: str = "some-model", complete: bool = False, **options: Any) -> tuple[str, str]:
    splitter = ThoughtSplitter(marks_for(model), **options)
    pieces = [piece for bit in bits for piece in splitter.feed(bit)] + splitter.end(complete=complete)
    return collected(pieces)


def check_every_cut(whole: str, expected: tuple[str, str], **options: Any) -> None:
    assert split([whole], **options) == expected
    assert split(list(whole), **options) == expected
    for cut in range(len(whole)):
        assert split([whole[:cut], "", whole[cut:]], **options) == expected


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
        ("<think>a</thi", "a", ""),
        ("<think>a</think>", "a", ""),
        ("<think>a</think> \n", "a", ""),
        ("<thin", "", ""),
        ("<", "", "<"),
        ("<th", "", "<th"),
        ("<thinking", "", ""),
        ("<table>", "", "<table>"),
        ("< think>a", "", "< think>a"),
        ("Hi <think>a</think>", "", "Hi <think>a</think>"),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        ("<think>a</think>\n<think>c</think>b", "ac", "b"),
        ("<think>a<think>b</think>c", "a<think>b", "c"),
        ("<think>a<</think>b", "a<", "b"),
        ("<think>a</think</think>b", "a</think", "b"),
        ("<think>1 < 2 </ 3</think>b", "1 < 2 </ 3", "b"),
        ("<think>a</think>b</think>", "a", "b</think>"),
        # only the closing mark
        ("a</think>b", "a", "b"),
        ("a\n</think>\n\nb", "a\n", "b"),
        ("</think>b", "", "b"),
        ("a[/THINK]b", "a", "b"),
        ("a</thought>b", "a", "b"),
        ("a<channel|>b", "a", "b"),
        ("a<|inner_suffix|>b", "a", "b"),
        ("a</th", "", "a</th"),
        ("a<|end|>b", "", "a<|end|>b"),
        # an answer about marks
        ("Write `</think>` behind it.", "", "Write `</think>` behind it."),
        ('The mark is "</think>".', "", 'The mark is "</think>".'),
        ("```html\n</think>\n```\nso", "", "```html\n</think>\n```\nso"),
        ("Use <think> and </think>.", "", "Use <think> and </think>."),
        ("`</think>` ends it</think>.", "", "`</think>` ends it</think>."),
        ("<p>a</p>\n<thead><th>x</th></thead>", "", "<p>a</p>\n<thead><th>x</th></thead>"),
        # other families
        ("[THINK]a[/THINK]b", "a", "b"),
        ("[THE END] b", "", "[THE END] b"),
        ("<|channel>thought\na<channel|>b", "\na", "b"),
        ("<|inner_prefix|>a<|inner_suffix|>b", "a", "b"),
        ("<seed:think>a</seed:think>b", "a", "b"),
        ("◁think▷a◁/think▷b", "a", "b"),
        ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>b<|END_RESPONSE|>", "a", "b"),
        ("<|START_RESPONSE|>b<|END_RESPONSE|>", "", "b"),
        ("<|START_RESPONSE|>b<|END_RESP", "", "b"),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b", "a", "b"),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>", "a", "b"),
        ("<|channel|>analysis<|message|>a<|end|>b", "a", "b"),
        ("<|channel|>final<|message|>b", "", "b"),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>c<|end|>"
            "<|start|>assistant<|channel|>final<|message|>b",
            "ac",
            "b",
        ),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assi", "a", ""),
        ("<|channel|>anal", "", ""),
        ("<thought>a</thought>b", "a", "b"),
        ("<thinking>a</thinking>b", "a", "b"),
        ("<reasoning>a</reasoning><answer>b</answer>", "a", "<answer>b</answer>"),
        # spelt or begun in another way
        ("<THINK>a</THINK>b", "a", "b"),
        ("<Think>a</think>b", "a", "b"),
        ("<think >a</think >b", "a", "b"),
        ("[think](https://example.org)", "", "[think](https://example.org)"),
        ("\ufeff<think>a</think>b", "a", "b"),
        ("\u200b\n<think>a</think>b", "a", "b"),
        ("\ufeffb", "", "\ufeffb"),
        ("a</THINK>b", "a", "b"),
        # closed more often than opened
        ("<think><think>a</think></think>b", "<think>a", "b"),
        ("<think>a</think>\n</think>\n\nb", "a", "b"),
        # headers, and thoughts that the beginning of an answer ends
        ("<|channel|>analysis<|message|>a<|channel|>final<|message|>b", "a", "b"),
        ("<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|end|>b", "{}", "b"),
        ("<|channel|>commentary to=functions.f", "", ""),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant to=f<|channel|>commentary<|message|>{}", "a{}", ""),
        ("<|channel|>final <|constrain|>json<|message|>b<|return|>", "", "b"),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|message|>b", "a", "b"),
        ("<|channel>thought\na<channel|>b<channel|>", "\na", "b"),
        ("<|channel>thought\na<|channel>finalb<channel|>", "\na", "b"),
        ("<|START_THINKING|>a<|START_RESPONSE|>b<|END_RESPONSE|>", "a", "b"),
        # a sentence about marks
        ("The tag </think> closes a thought.", "", "The tag </think> closes a thought."),
        ("Write </think>, then the answer.", "", "Write </think>, then the answer."),
        ("Use it (</think>) there. Then </think> again.", "", "Use it (</think>) there. Then </think> again."),
        ("In HTML, **</think>** is unknown.", "", "In HTML, **</think>** is unknown."),
        ("- </think> closes\n- [/THINK] as well", "", "- </think> closes\n- [/THINK] as well"),
        ("| </think> | closes |", "", "| </think> | closes |"),
        ("[/THINK] is Mistral's.", "", "[/THINK] is Mistral's."),
        ("~~~\n</think>\n~~~\nso", "", "~~~\n</think>\n~~~\nso"),
        ("It ends with </think>", "", "It ends with </think>"),
        # no sentence goes on behind these
        ("I know. </think> The answer", "I know. ", "The answer"),
        ("So 4 </think> The answer", "So 4 ", "The answer"),
        ("So 4 </think>\n\nb", "So 4 ", "b"),
        ("So 4\n</think> b", "So 4\n", "b"),
    ],
)
def test_table(whole: str, reasoning: str, text: str) -> None:
    check_every_cut(whole, (reasoning, text))


@pytest.mark.parametrize(
    ("model", "whole", "reasoning", "text"),
    [
        ("Hunyuan-A13B", "<think>\na\n</think>\n<answer>\nb\n</answer>", "\na\n", "\nb\n"),
        ("gpt-oss-20b", "analysisa plan.assistantfinalb", "a plan.", "b"),
        ("some-model", "analysis of b", "", "analysis of b"),
        ("granite-3.2-8b", "Here is my thought process:a Here is my response:b", "a ", "b"),
    ],
)
def test_marks_of_some_models_only(model: str, whole: str, reasoning: str, text: str) -> None:
    check_every_cut(whole, (reasoning, text), model=model)


@pytest.mark.parametrize("whole", ["<thi", "<|cha", "<thinking"])
def test_a_mark_is_cut_off_only_where_the_answer_is(whole: str) -> None:
    check_every_cut(whole, ("", ""), complete=False)
    check_every_cut(whole, ("", whole), complete=True)


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (["<think>a</think>b"], "b"),
        (["</think>\n\nb"], "b"),
        (["[TH", "INK]a[/THINK]", "b"], "b"),
        (["\n\nb </think>"], "b </think>"),
        (["<"], "<"),
        (["<table>"], "<table>"),
    ],
)
def test_what_comes_beside_thoughts_that_the_server_tells_apart(bits: list[str], text: str) -> None:
    splitter = ThoughtSplitter(ROWS)
    pieces = splitter.apart() + [piece for bit in bits for piece in splitter.feed(bit) + splitter.apart()]
    assert collected(pieces + splitter.end(complete=True))[1] == text


def test_nothing_is_a_mark_when_it_is_off() -> None:
    splitter = ThoughtSplitter(ROWS)
    splitter.off()
    assert collected(splitter.feed("<think>a</think>b") + splitter.end()) == ("", "<think>a</think>b")


@pytest.mark.parametrize("row", table(), ids=lambda row: row.open[0])
def test_every_row_of_the_table(row: Marks) -> None:
    model = (*row.only_for, "some-model")[0]
    assert row.sources
    for opening in row.open:
        for closing in row.close:
            check_every_cut(f"{opening}{row.header}a{closing}b", ("a", "b"), model=model)
        check_every_cut(f"{opening}{row.header}a", ("a", ""), model=model)
    for before in row.answer:
        for behind in row.end:
            thought = f"{row.open[0]}{row.header}a{row.close[0]}"
            check_every_cut(f"{thought}{before}{row.header}b{behind}\n", ("a", "b"), model=model)


BITS = st.lists(
    st.sampled_from(
        (
            *("<think>", "</think>", "<th", "ink>", "</", "<", ">", "`", "\n", " ", "a", "ü😀", "[THINK]", "[/THINK]"),
            *("<|channel|>", "analysis", "final", "<|message|>", "<|end|>", "<|start|>", "assistant", "<|return|>"),
        )
    ),
    max_size=12,
).map("".join)


@given(whole=BITS, cuts=st.lists(st.integers(0, 90), max_size=8), complete=st.booleans())
@example(whole="<think>a</think>\n\nb", cuts=[3, 10, 17, 18], complete=True)
def test_any_way_of_cutting_gives_the_same(whole: str, cuts: list[int], complete: bool) -> None:
    borders = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    bits = [whole[begin:end] for begin, end in pairwise(borders)]
    assert split(bits, complete=complete) == split([whole], complete=complete)


@given(whole=BITS)
def test_without_a_mark_nothing_is_changed(whole: str) -> None:
    if not any(mark in whole for row in ROWS for mark in row.all) and not whole.rstrip().endswith(("<|cha", "<|sta")):
        reasoning, text = split([whole])
        assert reasoning == ""
        assert whole.startswith(text)


@pytest.mark.parametrize(
    ("whole", "complete", "reasoning", "text"),
    [
        ("a</think>b", True, "a", "b"),
        ("a", False, "a", ""),  # cut by length in the middle of its thoughts
        ("a", True, "a", "a"),  # it didn't think: what looked like thoughts was the answer
        ("<think>a</think>b", True, "a", "b"),
    ],
)
def test_a_model_whose_template_probably_opens_the_thought(
    whole: str, complete: bool, reasoning: str, text: str
) -> None:
    guessed = guessed_for("DeepSeek-R1-Distill-Qwen-7B")
    assert guessed is not None
    check_every_cut(whole, (reasoning, text), guessed=guessed, complete=complete)


@pytest.mark.parametrize(
    ("model", "guessed"),
    [
        ("deepseek-ai/DeepSeek-R1", True),
        ("Qwen3-30B-A3B-Thinking-2507", True),
        ("olmo-3-7b-think", True),
        ("qwen3-4b-instruct-2507", False),
        ("gpt-oss-20b", False),
        ("rethink", False),
    ],
)
def test_whose_template_opens_thoughts(model: str, guessed: bool) -> None:
    assert (guessed_for(model) is not None) == guessed


@pytest.mark.parametrize(
    ("model", "may"),
    [
        ("Qwen/Qwen3.5-9B", True),
        ("deepseek-v3.2", True),
        ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", True),
        ("phi-4-reasoning-plus", True),
        ("smollm2-135m-instruct", False),
        ("meta-llama/Llama-3.3-70B-Instruct", False),
        ("deepseek-r1-distill-llama-3-8b", True),
        ("office-model", None),
        ("gpt-oss-20b", None),
    ],
)
def test_whose_template_may_open_thoughts(model: str, may: bool | None) -> None:
    assert may_be_opened_for(model) is may


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("<|user|>hi<|assistant|><think>\n", "<think>"),
        ("<|user|>hi<think>\n<|assistant|>", "<think>"),
        ("<|user|>hi<|assistant|><think>\n\n</think>\n\n", None),
        ("<|assistant|>", None),
        ("[THINK]", "[THINK]"),
    ],
)
def test_whether_a_prompt_has_opened_a_thought(prompt: str, opened: str | None) -> None:
    row = opened_at_the_end(prompt, ROWS)
    assert (row.open[0] if row else None) == opened
    if row:
        assert split(["a", row.close[0], "b"], opened=row) == ("a", "b")


def test_what_was_given_out_as_text_before_a_closing_mark() -> None:
    splitter = ThoughtSplitter(ROWS)
    assert splitter.feed("secret plan") == [Text("secret plan")]
    assert splitter.feed("</think>b") == [ThoughtsSoFar(), Text("b")]


def test_a_server_that_tells_them_apart() -> None:
    splitter = ThoughtSplitter(ROWS, guessed=guessed_for("deepseek-r1"))
    assert splitter.apart() == []
    assert splitter.feed("<think> is a mark") == [Text("<think> is a mark")]


@pytest.mark.parametrize(("bits", "certain"), [(["<thi"], 0), (["<think>ab</th"], 1), (["x"], 1), (["<thx"], 1)])
def test_what_is_certain_does_not_wait(bits: list[str], certain: int) -> None:
    splitter = ThoughtSplitter(ROWS)
    assert len([piece for bit in bits for piece in splitter.feed(bit)]) == certain


def test_no_more_of_a_thought_is_held_back_than_a_mark() -> None:
    splitter = ThoughtSplitter(ROWS)
    (piece,) = splitter.feed("<think>" + "thought " * 1000 + "</thin")
    assert piece == Reasoning("thought " * 1000)
