"""Answers on a terminal: broken between words, and Markdown shown in the terminal's styles."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from llmctl.cli.output import Output, colour, harmless

if TYPE_CHECKING:
    from llmctl.cli.markdown import Markdown
    from llmctl.cli.wrap import CodeWrap


class Layout(Enum):
    """How an answer is laid out."""

    AS_WRITTEN = auto()  # what has to stay whole, as JSON
    WORDS = auto()
    MARKDOWN = auto()


@dataclass
class TerminalOutput(Output):
    """Where the terminal has no styles, Markdown is laid out as words."""

    layout: Layout = Layout.WORDS
    _shaped: Markdown | CodeWrap | None = field(default=None, init=False)

    def piece(self, text: str) -> None:
        if self.layout is Layout.AS_WRITTEN:
            super().piece(text)
            return
        if self._shaped is None:
            self._shaped = self._shape()
        self.write(self._shaped.add(harmless(text)))

    def _shape(self) -> Markdown | CodeWrap:
        from llmctl.cli.markdown import Markdown
        from llmctl.cli.wrap import CodeWrap

        return Markdown() if self.layout is Layout.MARKDOWN and colour(sys.stdout) else CodeWrap()

    def end_pieces(self) -> None:
        shaped, self._shaped = self._shaped, None
        if shaped is not None:
            self.write(shaped.end())
        super().end_pieces()


def answer_output(command: str, *, as_json: bool = False, quiet: bool = False) -> Output:
    """Where the answer of ``command`` goes: as a person reads it on a terminal, else byte for byte."""
    return (TerminalOutput if sys.stdout.isatty() else Output)(command, as_json=as_json, quiet=quiet)


def lay_out(out: Output, *, markdown: bool, as_written: bool = False) -> None:
    """How answers look from now on, if ``out`` is a terminal's; ``markdown`` is the user's setting."""
    if isinstance(out, TerminalOutput):
        out.layout = Layout.AS_WRITTEN if as_written else Layout.MARKDOWN if markdown else Layout.WORDS
