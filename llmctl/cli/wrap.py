"""Streamed text broken between words at a terminal's width, as it comes."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from llmctl.cli.output import Output, harmless

FENCE = "```"


def terminal_columns() -> int:
    return shutil.get_terminal_size().columns


class WordWrap:
    """Takes bits of a text and gives back what can be written of it: a word once its end has come.

    Lines of code between fences stay as they are, and so do blanks at the beginning of a line. Wide characters
    (Chinese, Japanese, Korean, emoji) may be followed by a break each.
    """

    def __init__(self, columns: Callable[[], int] = terminal_columns) -> None:
        self._columns = columns
        self._column = 0
        self._blanks = ""
        self._word = ""
        self._in_code = False

    def add(self, text: str) -> str:
        return "".join(self._character(character) for character in text)

    def rest(self) -> str:
        """What was held back, at the end of the text."""
        placed = self._placed_word()
        blanks, self._blanks = self._blanks, ""
        return placed + blanks

    def _character(self, character: str) -> str:
        if character == "\n":
            return self._line_end()
        if character in " \t":
            placed = self._placed_word()
            self._blanks += character
            return placed
        if _cells(character) < 2:
            self._word += character
            return ""
        placed = self._placed_word()
        self._word = character
        return placed + self._placed_word()

    def _line_end(self) -> str:
        placed = self._placed_word()
        self._blanks, self._column = "", 0
        return placed + "\n"

    def _placed_word(self) -> str:
        """The word behind its blanks, or on a new line if it doesn't fit on this one."""
        if not self._word:
            return ""
        word, blanks = self._word, self._blanks
        self._word = self._blanks = ""
        if self._column == 0 and word.startswith(FENCE):
            self._in_code = not self._in_code
        width = sum(map(_cells, word))
        if self._column and not self._in_code and self._column + len(blanks) + width > self._columns():
            self._column = width
            return "\n" + word
        self._column += len(blanks) + width
        return blanks + word


def _cells(character: str) -> int:
    if character.isascii():
        return 1
    from rich.cells import get_character_cell_size

    return get_character_cell_size(character)


class WrappedOutput(Output):
    """Answers on the terminal, broken between words."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._wrap = WordWrap()

    def piece(self, text: str) -> None:
        super().piece(self._wrap.add(harmless(text)))
