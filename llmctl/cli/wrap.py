"""Streamed text broken between words at a terminal's width, as it comes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable

FENCE = "```"
RUN = re.compile(r"[ \t]+|\n|[^ \t\n]+")
NO_LINE_BEGINS_WITH = frozenset("、。，．！？：；）」』】〉》…ーぁぃぅぇぉっゃゅょァィゥェォッャュョ")
ZERO_WIDTH_JOINER = "\u200d"
FLAGS, SKIN_TONES = range(0x1F1E6, 0x1F200), range(0x1F3FB, 0x1F400)


def terminal_columns() -> int:
    return shutil.get_terminal_size().columns


def painted(text: str, style: str) -> str:
    """``text`` in a style of a terminal: the parameters of an SGR sequence, as ``1;36``. Nothing stays switched on."""
    return f"\x1b[{style}m{text}\x1b[0m" if style and text else text


def cells(text: str) -> int:
    """Columns of a terminal that ``text`` takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


class WordWrap:
    """Takes bits of a text and gives back what can be written of it: a word once its end has come.

    Blanks at the beginning of a line stay as they are. Between wide characters (Chinese, Japanese, Korean, emoji) a
    line may break, but not before a character that no line begins with. ``hanging`` stands before each line that a
    break begins.
    """

    def __init__(self, columns: Callable[[], int] = terminal_columns) -> None:
        self._columns = columns
        self._column = 0
        self._blanks = ""
        self._word: list[tuple[str, str]] = []  # texts and their styles
        self._style = ""
        self._hanging, self._hanging_cells = "", 0
        self.breaks = True

    @property
    def columns(self) -> int:
        """Of the terminal, as wide as it is now."""
        return self._columns()

    def hang(self, bars: str, blanks: str, style: str) -> None:
        """Lines that a break begins start with ``bars`` in their style and ``blanks`` from now on."""
        self._hanging, self._hanging_cells = painted(bars, style) + blanks, len(bars + blanks)

    def add(self, text: str, style: str = "") -> str:
        """What can be written now; ``style`` as ``painted`` has it."""
        self._style = style
        return "".join(map(self._run, RUN.findall(text)))

    def verbatim(self, text: str, style: str = "") -> str:
        """What was held back, and ``text`` behind it, which is part of one line, however long that gets."""
        before = self.end()
        self._column += cells(text)
        return before + painted(text, style)

    def end(self) -> str:
        """What was held back, at the end of the text."""
        placed = self._placed_word()
        blanks, self._blanks = self._blanks, ""
        return placed + blanks

    def _run(self, run: str) -> str:
        if run == "\n":
            return self._line_end()
        if run[0] in " \t":
            placed = self._placed_word()
            self._blanks += run
            return placed
        if run.isascii() and self._last.isascii():
            self._append(run)
            return ""
        return "".join(map(self._character, run))

    @property
    def _last(self) -> str:
        """The last character of the word, empty where there is no word."""
        return self._word[-1][0][-1] if self._word else ""

    def _character(self, character: str) -> str:
        """What the word has so far if a line may break before this character."""
        placed = self._placed_word() if self._last and _may_break(self._last, character) else ""
        self._append(character)
        return placed

    def _append(self, text: str) -> None:
        if self._word and self._word[-1][1] == self._style:
            text = self._word.pop()[0] + text
        self._word.append((text, self._style))

    def _line_end(self) -> str:
        placed = self._placed_word()
        self._blanks, self._column = "", 0
        return placed + "\n"

    def _placed_word(self) -> str:
        """The word behind its blanks, or on a new line if it doesn't fit on this one."""
        if not self._word:
            return ""
        width = sum(cells(text) for text, _ in self._word)
        word = "".join(painted(text, style) for text, style in self._word)
        blanks, self._blanks = self._blanks, ""
        self._word = []
        column = self._column + len(blanks) + width
        if self.breaks and self._column > self._hanging_cells and column > self._columns():
            self._column = self._hanging_cells + width
            return f"\n{self._hanging}{word}"
        self._column = column
        return blanks + word


class CodeWrap(WordWrap):
    """Leaves lines of code between fences as they are."""

    def _placed_word(self) -> str:
        if self._word and self._column == 0 and self._word[0][0].startswith(FENCE):
            self.breaks = not self.breaks
        return super()._placed_word()


def _may_break(last: str, character: str) -> bool:
    """Whether a line may break between two characters of which none is a blank."""
    if last == ZERO_WIDTH_JOINER or character in NO_LINE_BEGINS_WITH or ord(character) in SKIN_TONES:
        return False
    if ord(last) in FLAGS and ord(character) in FLAGS:
        return False
    return cells(character) > 1 or (cells(last) > 1 and cells(character) > 0)
