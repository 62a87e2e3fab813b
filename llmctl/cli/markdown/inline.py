"""The marks inside a line of Markdown: emphasis, code, links. A mark that nothing closes is a character like others."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmctl.cli.markdown import styles
from llmctl.cli.markdown.styles import Styled, with_style

PLAIN = re.compile(r"[^*_~`\[!\\]+")
MARKS = {"*": styles.ITALIC, "**": styles.BOLD, "***": styles.BOLD_ITALIC, "_": styles.ITALIC, "~~": styles.STRUCK}
ESCAPED = frozenset("*_`~#|")  # of what Markdown lets be escaped; \( and \[ are mathematics
CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)")
LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(<?([^\s()<>]*(?:\([^\s()]*\)[^\s()]*)*)>?\)")
LINK_BEGUN = re.compile(r"!?\[(?:[^\[\]]|\[[^\[\]]*\]?)*(?:\](?:\((?:[^()]|\([^()]*\)?)*)?)?")
TOKEN = re.compile(r"\\.|(`+)(?!`).+?(?<!`)\1(?!`)|\*+|_+|~+")
BEFORE_MARKS = frozenset("([{\"'-/>*_~|:,.;!?")
MOST_HELD = 120  # characters that wait for the end of a mark
MOST_HELD_OF_LINK = 400


def pieces(text: str, style: str = "") -> list[Styled]:
    """A line, or a part of one, that is whole."""
    return list(_pieces(text, style))


def _pieces(text: str, style: str) -> Iterator[Styled]:
    before = ""
    while text:
        length, styled = first_span(text, before, is_whole=True) or (1, [(text[0], "")])
        yield from ((piece, with_style(style, own)) for piece, own in styled)
        before, text = text[length - 1], text[length:]


def first_span(text: str, before: str, *, is_whole: bool) -> tuple[int, list[Styled]] | None:
    """How many characters the first span in ``text`` takes, and how they are shown; None where that depends on what
    comes, which it never does if the line ``is_whole``. ``before`` is the character before it."""
    if plain := PLAIN.match(text):
        return plain.end(), [(plain[0], "")]
    most = MOST_HELD_OF_LINK if text[0] in "[!" else MOST_HELD
    return READERS[text[0]](text[:most], before, is_whole or len(text) >= most)


def _escape(text: str, before: str, is_whole: bool) -> tuple[int, list[Styled]] | None:
    if text[1:2] in ESCAPED:
        return 2, [(text[1], "")]
    return (1, [("\\", "")]) if is_whole or len(text) > 1 else None


def _code(text: str, before: str, is_whole: bool) -> tuple[int, list[Styled]] | None:
    match = CODE.match(text)
    if match and (is_whole or match.end() < len(text)):
        return match.end(), [(_unpadded(match[2]), styles.CODE)]
    if match or not is_whole:
        return None
    return _literal(text, len(text) - len(text.lstrip("`")))


def _unpadded(code: str) -> str:
    """Without the blank on both sides that code with backticks at its ends needs."""
    return code[1:-1] if code[0] == code[-1] == " " and code.strip() else code


def _link(text: str, before: str, is_whole: bool) -> tuple[int, list[Styled]] | None:
    if match := LINK.match(text):
        label, address = match.groups()
        shown = [] if label == address else pieces(label, styles.LINK)
        return match.end(), [*shown, (f" ({address})" if shown else address, "" if shown else styles.LINK)]
    if not is_whole and (text == "!" or LINK_BEGUN.fullmatch(text)):
        return None
    return _literal(text, 1)


def _emphasis(text: str, before: str, is_whole: bool) -> tuple[int, list[Styled]] | None:
    length = len(text) - len(text.lstrip(text[0]))
    mark = text[:length]
    if length == len(text):
        return _literal(text, length) if is_whole else None
    if mark not in MARKS or not _opens(mark, before, text[length]):
        return _literal(text, length)
    end = _closing(text, length)
    if not is_whole and (end is None or end + length == len(text)):
        return None
    if end is None:
        return _literal(text, length)
    return end + length, pieces(text[length:end], MARKS[mark])


def _opens(mark: str, before: str, after: str) -> bool:
    """Whether a mark stands before a word: those of 2*3, snake_case and x^*y don't. Between wide letters it may."""
    is_apart = not before or before.isspace() or before in BEFORE_MARKS
    is_wide = mark != "_" and not before.isascii()
    return not after.isspace() and (is_apart or is_wide)


def _closing(text: str, length: int) -> int | None:
    """Where the run of marks stands that closes the first one, which is ``length`` long; None where there is none.
    Marks between them that open and close are passed over, and so is code."""
    opened = [length]
    for token in TOKEN.finditer(text, length):
        if token[0][0] != text[0]:
            continue
        at, left, after = token.start(), len(token[0]), text[token.end() : token.end() + 1]
        if not text[at - 1].isspace() and (text[0] != "_" or not after.isalnum()):
            while opened and left >= opened[-1]:
                left -= opened.pop()
                if not opened:
                    return token.end() - left - length
        elif not after.isspace():
            opened.append(left)
    return None


def _literal(text: str, length: int) -> tuple[int, list[Styled]]:
    return length, [(text[:length], "")]


READERS = {
    "\\": _escape,
    "`": _code,
    "[": _link,
    "!": _link,
    "*": _emphasis,
    "_": _emphasis,
    "~": _emphasis,
}
