"""Separates a model's thoughts from its answer as the text streams in.

A mark counts where a model puts it: an opening one at the beginning or right behind a thought, a closing one in a
thought. A closing mark without an opening one means that everything before it was a thought, unless it stands in
code or quotes, in the middle of a sentence, or behind an opening mark that was part of the text: then the answer is
about marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from functools import cache

from llmctl.thoughts.marks import Marks
from llmctl.types.event import Reasoning, Text, ThoughtsSoFar, Words

SURELY_CUT_OFF = 4  # so many characters of a mark at the end of the text are a mark that was cut off
MOST_BLANKS = 4096  # characters at the beginning: behind more of them there is no thought
MOST_HEADER = 200  # characters of a header; a longer one is none
QUOTES = ("`", '"', "'", "“", "‘", "«")
FENCES = ("```", "~~~")
BLANKS = re.compile(r"[\s\ufeff\u200b\u2060]*")  # byte order marks and spaces without width as well
MIDDLE = re.compile(r"(?:^|[^.!?…:>\s(\[*_|])[ (\[*_|]+$|^\s*(?:[-*+#|>]+|[0-9]+[.)])[ *_|]+$")
GOES_ON = re.compile(r"[ \t]+[a-z(]|[ \t]*[,;:.!?)\]*_|]")


class _Position(Enum):
    START = auto()  # nothing but blanks so far
    HEADER = auto()  # behind a mark, which has a header of its own
    THOUGHT = auto()
    BEHIND = auto()  # a thought has been closed, nothing but blanks since
    ANSWER = auto()  # what was to be said of thoughts has been said
    TEXT = auto()  # nothing was said of thoughts: a closing mark may still come


class ThoughtSplitter:
    """Feed it text as it comes. A mark may arrive in several bits; what might still become one is held back.

    ``opened``: the marks with which the prompt has opened a thought. ``guessed``: marks of a model whose template
    probably does; if no closing mark comes, the text was the answer. ``lone``: the marks whose closing one counts
    without an opening one. What has been given out as text can't be taken back when such a mark comes: a
    ``ThoughtsSoFar`` then says what it was.
    """

    def __init__(
        self,
        rows: Sequence[Marks],
        *,
        opened: Marks | None = None,
        guessed: Marks | None = None,
        lone: Sequence[Marks] | None = None,
    ) -> None:
        self._rows = rows
        self._openings = tuple(mark for row in rows for mark in _beginnings(row))
        self._lone = [row for row in (rows if lone is None else lone) if row.lone_close]
        self._closings = tuple(mark for row in self._lone for mark in row.close)
        self._guessed = guessed
        self._held = ""
        self._given: list[str] = []  # text of TEXT, and thoughts that are a guess
        self._marks = opened
        self._ends: tuple[str, ...] = ()
        self._behind_header = _Position.THOUGHT
        self._state = _Position.START if opened is None else _Position.THOUGHT

    @property
    def closes(self) -> tuple[str, ...]:
        """The marks that would end the thought that is open; empty outside of a thought."""
        return self._marks.close if self._state is _Position.THOUGHT and self._marks else ()

    def off(self) -> None:
        """Stops splitting: all text from now on is the answer."""
        self._state = _Position.ANSWER

    def apart(self) -> list[Words]:
        """Call it when the server sends thoughts separately: what comes now is the answer, or thoughts that the server
        repeats in it with their marks. Returns the text that was held back."""
        if self._state is _Position.START:
            self._state, self._guessed = _Position.BEHIND, None
        if self._state is not _Position.TEXT and self._guessed is None:
            return []
        pieces = _text(self._held)
        self._held, self._state, self._guessed = "", _Position.ANSWER, None
        return pieces

    def feed(self, text: str) -> list[Words]:
        """Takes more text, and returns the pieces that are certain by now."""
        self._held += text
        pieces: list[Words] = []
        before = None
        while self._held and (self._state, len(self._held)) != before:
            before = self._state, len(self._held)
            pieces += self._step()
        return pieces

    def end(self, *, complete: bool = False) -> list[Words]:
        """The pieces that were held back, when the text has ended; ``complete`` if the model ended it."""
        rest, self._held = self._held, ""
        if self._state is _Position.THOUGHT:
            if self._guessed is not None and complete:
                return _text("".join(self._given) + rest)
            return _thought(rest if complete else rest[: len(rest) - _cut_off(rest, self.closes)])
        if self._state is _Position.HEADER:  # one that is whole had an end
            return [] if not complete else (_thought if self._behind_header is _Position.THOUGHT else _text)(rest)
        if self._state in (_Position.START, _Position.BEHIND):
            begun = _begun(rest)
            marks = self._openings if self._state is _Position.START else self._behind_marks
            is_cut_off = not complete and begun and _cut_off(begun, marks) == len(begun)
            return [] if is_cut_off else _text(rest if self._state is _Position.START else begun)
        return _text(rest[: len(rest) - _cut_off(rest, self._ends)])

    def _step(self) -> list[Words]:
        match self._state:
            case _Position.START:
                return self._start()
            case _Position.HEADER:
                return self._in_header()
            case _Position.THOUGHT:
                return self._in_thought()
            case _Position.BEHIND:
                return self._behind()
            case _Position.ANSWER:
                return self._in_answer()
            case _Position.TEXT:
                return self._in_text()

    def _start(self) -> list[Words]:
        begun = _begun(self._held)
        if len(self._held) < MOST_BLANKS and (not begun or _could_become(begun, self._openings)):
            return []
        for row in self._rows:
            if mark := _starts_with(begun, _beginnings(row)):
                self._guessed = None
                self._enter(row, mark, begun)
                return []
        if self._guessed is not None:
            self._state, self._marks = _Position.THOUGHT, self._guessed
        else:
            self._state = _Position.TEXT
        return []

    def _enter(self, row: Marks, mark: str, begun: str) -> None:
        """Behind an opening mark, or one that stands in front of the answer."""
        self._marks, self._held = row, begun[len(mark) :]
        self._behind_header = _Position.THOUGHT if mark in row.open else _Position.ANSWER
        self._state = _Position.HEADER if row.header else self._behind_header
        self._ends = row.end if mark in row.answer else ()

    def _in_header(self) -> list[Words]:
        assert self._marks is not None
        _, header_end, rest = self._held.partition(self._marks.header)
        if header_end:
            self._held = rest
        if header_end or len(self._held) > MOST_HEADER:
            self._state = self._behind_header
        return []

    def _in_thought(self) -> list[Words]:
        assert self._marks is not None
        begins = self._marks.answer if self._marks.control else ()  # an answer that begins ends a thought as well
        at, mark = _earliest(self._held, self.closes + begins)
        if mark:
            behind = at if mark in begins else at + len(mark)
            thought, self._held, self._state = self._held[:at], self._held[behind:], _Position.BEHIND
            self._guessed = None
        else:
            thought, self._held = keep(self._held, self.closes + begins)
        if self._guessed is not None:
            self._given.append(thought)
        return _thought(thought)

    @property
    def _behind_rows(self) -> Sequence[Marks]:
        """Those whose marks may stand behind a thought: its own, or all where the server has told it apart."""
        return self._rows if self._marks is None else (self._marks,)

    @property
    def _behind_marks(self) -> tuple[str, ...]:
        return tuple(mark for row in self._behind_rows for mark in (*row.open, *row.answer, *row.close))

    def _behind(self) -> list[Words]:
        self._held = _begun(self._held)
        if not self._held or _could_become(self._held, self._behind_marks):
            return []
        mark = _starts_with(self._held, self._behind_marks)
        after = self._held[len(mark) :]
        if mark and self._marks is None and len(after) < MOST_BLANKS and not after.strip(" \t"):  # what follows decides
            return []
        if not mark or (self._marks is None and GOES_ON.match(after)):
            self._state = _Position.ANSWER
            self._ends = self._marks.end if self._marks is not None and self._marks.control else ()
        elif row := next((row for row in self._behind_rows if mark in (*row.open, *row.answer)), None):
            self._enter(row, mark, self._held)
        else:  # a thought is closed once more
            self._held = after
        return []

    def _in_answer(self) -> list[Words]:
        at, mark = _earliest(self._held, self._ends)
        if not mark:
            text, self._held = keep(self._held, self._ends)
            return _text(text)
        assert self._marks is not None
        text, rest = self._held[:at], self._held[at + len(mark) :]
        if not rest.strip():  # the end, if nothing follows
            self._held = mark
        elif self._marks.control:
            self._held, self._state = rest, _Position.BEHIND
        else:
            text, self._held = text + mark, rest
        return _text(text)

    def _in_text(self) -> list[Words]:
        at, mark = _earliest(self._held, self._closings)
        if not mark:
            text, self._held = keep(self._held, self._closings)
            return self._given_out(text)
        before, after = "".join(self._given) + self._held[:at], self._held[at + len(mark) :]
        in_middle = not before or MIDDLE.search(before.rpartition("\n")[2]) is not None
        if in_middle and len(after) < MOST_BLANKS and not after.strip(" \t"):  # what follows decides
            text, self._held = self._held[:at], self._held[at:]
            return self._given_out(text)
        if self._can_end_thoughts(before, mark) and not (in_middle and GOES_ON.match(after)):
            return self._all_was_thought(at, mark)
        text, self._held = self._held[: at + len(mark)], after
        self._closings = ()  # the answer is about marks, and the next one is as well
        return _text(text)

    def _given_out(self, text: str) -> list[Words]:
        self._given.append(text)
        return _text(text)

    def _can_end_thoughts(self, before: str, mark: str) -> bool:
        row = next(row for row in self._lone if mark in row.close)
        line = before.rpartition("\n")[2]
        in_code = any(before.count(fence) % 2 for fence in FENCES) or line.count("`") % 2
        return not in_code and not before.endswith(QUOTES) and not any(opening in before for opening in row.open)

    def _all_was_thought(self, at: int, mark: str) -> list[Words]:
        thought, self._held = self._held[:at], self._held[at + len(mark) :]
        self._marks = next(row for row in self._lone if mark in row.close)
        self._state = _Position.BEHIND
        so_far = [ThoughtsSoFar()] if any(self._given) else []
        return [*so_far, *_thought(thought)]


def _text(text: str) -> list[Words]:
    return [Text(text)] if text else []


def _thought(text: str) -> list[Words]:
    return [Reasoning(text)] if text else []


def _begun(text: str) -> str:
    """Without the blanks at the beginning."""
    match = BLANKS.match(text)
    return text[match.end() :] if match else text


def _beginnings(row: Marks) -> tuple[str, ...]:
    """The marks that may stand at the very beginning of a text."""
    return (*row.open, *row.answer) if row.control else row.open


def _could_become(begun: str, marks: Iterable[str]) -> bool:
    return any(len(begun) < len(mark) and mark.startswith(begun) for mark in marks)


def _starts_with(begun: str, marks: Sequence[str]) -> str:
    return next((mark for mark in marks if begun.startswith(mark)), "")


@cache
def _any_of(marks: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, marks)))


def _earliest(text: str, marks: tuple[str, ...]) -> tuple[int, str]:
    """Where the first mark is and which; ``(-1, "")`` if there is none."""
    first = _any_of(marks).search(text) if marks else None
    return (first.start(), first[0]) if first else (-1, "")


def keep(text: str, marks: Sequence[str]) -> tuple[str, str]:
    """The text that is certain, and the end of it that may become a mark."""
    longest = max(map(len, marks), default=0)
    beginnings = {mark[0] for mark in marks}
    for at in range(max(0, len(text) - longest + 1), len(text)):
        if text[at] in beginnings and any(mark.startswith(text[at:]) for mark in marks):
            return text[:at], text[at:]
    return text, ""


def _cut_off(text: str, marks: Sequence[str]) -> int:
    """How many characters at the end of the text are a mark that was cut off, or a whole one."""
    longest = max(map(len, marks), default=0)
    for at in range(max(0, len(text) - longest), len(text) - SURELY_CUT_OFF + 1):
        if any(mark.startswith(text[at:]) for mark in marks):
            return len(text) - at
    return 0
