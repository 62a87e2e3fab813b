"""Markdown on a terminal is the same however it is cut into bits, and loses nothing but its marks."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.cli.markdown import Markdown
from tests.properties import examples

SEQUENCE = re.compile(r"\x1b\[([0-9;]*)m(.*?)\x1b\[0m", re.DOTALL)
NAMES = {"1": "bold", "2": "dim", "3": "italic", "4": "link", "9": "struck", "36": "code", "1;4": "title"}


def written(text: str, *, size: int = 1000, columns: int = 40) -> str:
    markdown = Markdown(lambda: columns)
    bits = [text[at : at + size] for at in range(0, len(text), size)]
    return "".join(map(markdown.add, bits)) + markdown.end()


def shown(text: str) -> str:
    """Styles by their names: ``<bold|word>``; bits of a line of code as one."""
    text = text.replace("\x1b[0m\x1b[36m", "")
    return SEQUENCE.sub(lambda match: f"<{NAMES.get(match[1], match[1])}|{match[2]}>", text)


WORDS = "words-words words-words words-words"
CASES = {
    # inside a line
    "words": ("plain words", "plain words\n"),
    "bold": ("a **b** c", "a <bold|b> c\n"),
    "bold words": ("**a b**, c", "<bold|a> <bold|b>, c\n"),
    "italic": ("*a* and _b_", "<italic|a> and <italic|b>\n"),
    "both": ("***a*** b", "<1;3|a> b\n"),
    "one in the other": ("**a *b* c**", "<bold|a> <1;3|b> <bold|c>\n"),
    "one at the end of the other": ("**a *b***", "<bold|a> <1;3|b>\n"),
    "struck": ("~~a~~ ~b", "<struck|a> ~b\n"),
    "code": ("run `a *b* _c_` now", "run <code|a> <code|*b*> <code|_c_> now\n"),
    "code with a backtick": ("`` a`b ``", "<code|a`b>\n"),
    "part of a word": ("**a**bc", "<bold|a>bc\n"),
    "between Chinese words": ("这是**重点**内容", "这是<bold|重><bold|点>内容\n"),
    "escaped": (r"\*a\* \_ \# \`b", "*a* _ # `b\n"),
    "mathematics": (r"\(x\) \[y\] $x^*$ and $y^*$ 2*3*4", "\\(x\\) \\[y\\] $x^*$ and $y^*$ 2*3*4\n"),
    "a link": ("see [the *page*](https://a.b/c_d_(e)).", "see <link|the> <4;3|page> (https://a.b/c_d_(e)).\n"),
    "a link that is its address": ("[https://a.b](https://a.b)", "<link|https://a.b>\n"),
    "an image": ("![a cat](cat.png)", "<link|a> <link|cat> (cat.png)\n"),
    "what is no link": ("[1] a[0] [ ] (b) !c", "[1] a[0] [ ] (b) !c\n"),
    "an address": ("https://a.b/c_d_e*f*g", "https://a.b/c_d_e*f*g\n"),
    # marks that nothing closes
    "arguments": ("f(*args, **kwargs)", "f(*args, **kwargs)\n"),
    "files": ("*.py and *.txt", "*.py and *.txt\n"),
    "a product": ("2 * 3 * 4, 2**3", "2 * 3 * 4, 2**3\n"),
    "names": ("snake_case_name __init__ _private", "snake_case_name __init__ _private\n"),
    "an open mark": ("a **b\nc", "a **b\nc\n"),
    "an open backtick": ("a `b\nc` d", "a `b\nc` d\n"),
    "a mark far from its end": (f"**{WORDS} {WORDS} {WORDS} {WORDS}**", f"**{WORDS}\n{WORDS}\n{WORDS}\n{WORDS}**\n"),
    # lines
    "headings": ("# A *b*\n### C", "<title|A> <1;4;3|b>\n<bold|C>\n"),
    "no heading": ("#tag\n#", "#tag\n#\n"),
    "a list": ("- a\n  * b\n10. c\n-5", "• a\n  • b\n10. c\n-5\n"),
    "a long item": ("- " + "word " * 9, "• word word word word word word word\n  word word\n"),
    "a long item in a list": ("  12) " + "word " * 8, "  12) word word word word word word word\n      word\n"),
    "a quote": ("> a **b**\n>\n>> c", "<dim|│ >a <bold|b>\n<dim|│ >\n<dim|│ │ >c\n"),
    "a long quote": ("> " + "word " * 8, "<dim|│ >word word word word word word word\n<dim|│ >word\n"),
    "a list in a quote": ("> - a", "<dim|│ >• a\n"),
    "a rule": ("a\n\n---\n* * *\n--", "a\n\n" + f"<dim|{'─' * 40}>\n" * 2 + "--\n"),
    "empty lines": ("a\n\n\nb\n", "a\n\n\nb\n"),
    "nothing": ("", ""),
    # code
    "a block": ("```py\nx = '*a* ' + b  \n\n```\nc", "<dim|```py>\n<code|x = '*a* ' + b  >\n\n<dim|```>\nc\n"),
    "a block of tildes": ("~~~\n```\n~~~", "<dim|~~~>\n<code|```>\n<dim|~~~>\n"),
    "a long line": ("```\n" + "word " * 12, f"<dim|```>\n<code|{'word ' * 12}>\n"),
    "a block in a list": ("- a\n  ```\n  x\n    y\n  ```", "• a\n<dim|```>\n<code|x>\n<code|  y>\n<dim|```>\n"),
    "a block in a quote": ("> ```\n> x\n> ```\n> a", "<dim|│ ```>\n<code|x>\n<dim|│ ```>\n<dim|│ >a\n"),
    "a quote that ends in a block": ("> ```\n> x\na *b*", "<dim|│ ```>\n<code|x>\na <italic|b>\n"),
    "an indented block": ("a\n\n    x *y* z\n", "a\n\n<code|    x *y* z>\n"),
    "an indented paragraph of a list": ("- a\n\n    b *c*", "• a\n\n    b <italic|c>\n"),
    "backticks around a line": ("```a``` b", "<code|a> b\n"),
    # tables
    "a table": (
        "| a | b |\n|---|--:|\n| **c** | 1 |\n| d\\|e | 22 |\nend",
        " <bold|a>      <bold|b>\n ────────\n <bold|c>      1\n d|e   22\nend\n",
    ),
    "a table of uneven rows": ("|a|\n|-|\n|b|c|", " <bold|a>\n ─────\n b   c\n"),
    "a table of wide characters": ("|漢字|b|\n|-|-|\n|x|y|", " <bold|漢字>   <bold|b>\n ────────\n x      y\n"),
    "a table with lines in a cell": ("|a|b|\n|-|-|\n|x<br>y|z|", " <bold|a>   <bold|b>\n ─────\n x   z\n y\n"),
    "a table at the end, cut off": ("|a|b|\n|-|-|\n|c", " <bold|a>   <bold|b>\n ─────\n c\n"),
    "bars that are no table": ("|x| = 3\n|y|\nz", "|x| = 3\n|y|\nz\n"),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_it_is_shown(text: str, expected: str, size: int) -> None:
    assert shown(written(text, size=size)) == expected


def test_a_word_is_written_when_its_end_has_come_and_what_is_marked_when_its_mark_has() -> None:
    markdown = Markdown(lambda: 40)
    bits = ["The ", "**bo", "ld** ", "word", ".", "\n", "|a|\n", "|-|\n", "x"]
    made = [markdown.add(bit) for bit in bits]
    assert [shown(piece) for piece in made[:6]] == ["The", "", " <bold|bold>", "", "", " word.\n"]
    assert made[6:8] == ["", ""]
    assert "a" in made[8]


@given(text=st.text("ab *_`~[]#>-|1.\n\\!:é漢", max_size=80), size=st.integers(1, 9))
@examples(300)
def test_no_letter_is_lost_however_it_is_cut(text: str, size: int) -> None:
    once = SEQUENCE.sub(r"\2", written(text, columns=1000))
    assert SEQUENCE.sub(r"\2", written(text, size=size, columns=1000)) == once
    assert re.findall(r"[abé漢1]", once) == re.findall(r"[abé漢1]", text)


@pytest.mark.parametrize("bit", ["*a ", "`a ", "[", "[a[b", "~~~a~", "|", "- ", "> ", "#", "**a_b_", "1.", "```", "\\"])
def test_a_long_line_of_marks_takes_no_more_than_its_length(bit: str) -> None:
    begun = time.process_time()
    written(bit * 20_000)
    assert time.process_time() - begun < 10  # a second at most; were it quadratic, minutes
