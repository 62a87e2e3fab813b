"""Markdown on a terminal while it is written: each word once, in its style, and nothing above it is ever changed."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from llmctl.cli.markdown import styles
from llmctl.cli.markdown.inline import first_span
from llmctl.cli.markdown.styles import with_style
from llmctl.cli.markdown.table import DELIMITER, table
from llmctl.cli.wrap import WordWrap, terminal_columns

MOST_AT_ONCE = 512  # characters: what is looked through again with every bit stays short
LONGEST_MARK = 4096  # characters of a line that wait for its end
FENCE = re.compile(r"(`{3,})[^`]*|(~{3,}).*")
RULE = re.compile(r"([-*_])(?: *\1){2,} *")
QUOTE = re.compile(r" {0,3}> ?")
HEADING = re.compile(r"(#{1,6})[ \t]+")
ITEM = re.compile(r"([-*+]|\d{1,9}[.)])[ \t]+")
MAY_BE_MARK = re.compile(r"#{1,6}|>|[-*_+](?: *[-*_])*[ \t]*|\d{1,9}[.)]?|`{1,2}|~{1,2}|`{3,}[^`]*|~{3,}.*|\|.*")
CODE_INDENT = 4
BULLET, BAR, LINE = "•", "│ ", "─"
MOST_COLUMNS_OF_RULE = 40


class Fence(Struct, frozen=True):
    """What has begun lines of code: its marks, its indentation, and in how many quotes it stands."""

    marks: str
    indent: int
    quotes: int

    def is_closed_by(self, line: str) -> bool:
        line = line.strip()
        return len(line) >= len(self.marks) and not line.strip(self.marks[0])


class Markdown:
    """Takes bits of Markdown and gives back what can be written of it. What a mark opens waits for its end, a table for
    its last row; lines of code are written as they are, so that they can be copied."""

    def __init__(self, columns: Callable[[], int] = terminal_columns) -> None:
        self._wrap = WordWrap(columns)
        self._written: list[str] = []
        self._rows: list[str] = []
        self._fence: Fence | None = None
        self._in_list = False
        self._is_after_text = False
        self._begin_line()

    def _begin_line(self) -> None:
        self._line = ""  # what has come of it and isn't passed on
        self._before = ""  # the character before that
        self._quotes = 0
        self._style = ""
        self._pass_on: Callable[[bool], None] | None = None  # None until it is known what kind of line it is

    def add(self, text: str) -> str:
        """What can be written now."""
        for at in range(0, len(text), MOST_AT_ONCE):
            *ended, begun = text[at : at + MOST_AT_ONCE].split("\n")
            for part in ended:
                self._line += part
                self._end_line()
            if begun:
                self._line += begun
                self._go_on(is_whole=False)
        return self._taken()

    def end(self) -> str:
        """The rest, and a final newline."""
        if self._line or self._pass_on is not None:
            self._end_line()
        self._write_table()
        return self._taken()

    def _taken(self) -> str:
        written, self._written = "".join(self._written), []
        return written

    def _end_line(self) -> None:
        self._go_on(is_whole=True)
        if self._pass_on != self._row:
            self._written.append(self._wrap.add("\n"))
        self._begin_line()

    def _go_on(self, *, is_whole: bool) -> None:
        if self._pass_on is None:
            self._pass_on = self._kind_of_code(is_whole) if self._fence else self._kind(is_whole)
        if self._pass_on is not None:
            self._pass_on(is_whole)

    # What kind of line it is: a method that passes it on, or None where that depends on what comes

    def _kind(self, is_whole: bool) -> Callable[[bool], None] | None:
        line = self._line.lstrip(" \t")
        if not is_whole and len(self._line) < LONGEST_MARK and (not line or MAY_BE_MARK.fullmatch(line)):
            return None
        if (quote := QUOTE.match(self._line)) is not None:
            self._line = self._line[quote.end() :]
            self._quotes += 1
            return self._kind(is_whole)
        if is_whole and line.startswith("|") and len(line) < LONGEST_MARK:
            return self._row
        self._write_table()
        return self._kind_of_text(line, is_whole)

    def _kind_of_text(self, line: str, is_whole: bool) -> Callable[[bool], None]:
        indent = len(self._line.expandtabs(CODE_INDENT)) - len(line.expandtabs(CODE_INDENT))
        is_after_text, self._is_after_text = self._is_after_text, bool(line)
        if is_whole and FENCE.fullmatch(line):
            self._fence = Fence(line[: len(line) - len(line.lstrip(line[0]))], indent, self._quotes)
            return self._mark
        if is_whole and RULE.fullmatch(line):
            return self._rule
        if indent >= CODE_INDENT and not is_after_text and not self._in_list:
            return self._code
        self._line = line
        self._begin_text(indent, is_after_text)
        return self._text

    def _kind_of_code(self, is_whole: bool) -> Callable[[bool], None] | None:
        assert self._fence is not None
        line = self._line
        for _ in range(self._fence.quotes):
            if (quote := QUOTE.match(line)) is None or (quote.end() == len(line) and not is_whole):
                return self._unquoted(is_whole)
            line = line[quote.end() :]
        if not is_whole and not line.strip().strip(self._fence.marks[0]):
            return None
        if is_whole and self._fence.is_closed_by(line):
            self._line, self._quotes, self._fence = line, self._fence.quotes, None
            return self._mark
        blanks = len(line) - len(line.lstrip(" "))
        self._line = line[min(blanks, self._fence.indent) :]
        return self._code

    def _unquoted(self, is_whole: bool) -> Callable[[bool], None] | None:
        """A line of code that has to be in a quote and isn't: the quote is over, and with it the code."""
        if not is_whole and not self._line.strip(" >"):
            return None
        self._fence = None
        return self._kind(is_whole)

    # How lines are passed on, as far as they have come

    def _begin_text(self, indent: int, is_after_text: bool) -> None:
        """Writes what stands before the words of a line, and sets how they look."""
        bars, blanks, marker = BAR * self._quotes, " " * indent, ""
        if (heading := HEADING.match(self._line)) is not None:
            self._style = styles.TITLE if heading.end(1) == 1 else styles.HEADING
            self._line = self._line[heading.end() :]
        elif (item := ITEM.match(self._line)) is not None:
            marker = (item[1] if item[1][0].isdigit() else BULLET) + " "
            self._line = self._line[item.end() :]
            self._in_list = True
        elif indent == 0 and not is_after_text and self._line:
            self._in_list = False
        self._write(bars, styles.DIM)
        self._write(blanks + marker)
        self._wrap.hang(bars, blanks + " " * len(marker), styles.DIM)

    def _text(self, is_whole: bool) -> None:
        while self._line and (span := first_span(self._line, self._before, is_whole=is_whole)) is not None:
            length, styled = span
            for text, style in styled:
                self._written.append(self._wrap.add(text, with_style(self._style, style)))
            self._before, self._line = self._line[length - 1], self._line[length:]

    def _code(self, is_whole: bool) -> None:
        self._write(self._line, styles.CODE)
        self._line = ""

    def _mark(self, is_whole: bool) -> None:
        """The line that begins or ends code."""
        self._write(BAR * self._quotes + self._line.strip(), styles.DIM)

    def _rule(self, is_whole: bool) -> None:
        self._write(BAR * self._quotes + LINE * min(MOST_COLUMNS_OF_RULE, self._wrap.columns), styles.DIM)

    def _row(self, is_whole: bool) -> None:
        """Keeps a row of a table, unless the second one shows that it is none."""
        self._rows.append(self._line.strip())
        if len(self._rows) == 2 and DELIMITER.fullmatch(self._rows[1]) is None:
            self._write_table()

    def _write_table(self) -> None:
        rows, self._rows = self._rows, []
        for line in table(rows, self._wrap.columns):
            self._written.append(line + "\n")

    def _write(self, text: str, style: str = "") -> None:
        self._written.append(self._wrap.verbatim(text, style))
