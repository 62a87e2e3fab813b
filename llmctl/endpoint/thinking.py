"""Separates a reasoning model's thoughts from its answer as the text streams in."""

from __future__ import annotations

from llmctl.types.answer import Piece, PieceKind

OPEN, CLOSE = "<think>", "</think>"


class ThoughtSplitter:
    """Text that starts with ``<think>`` is reasoning until ``</think>``. A tag may arrive in several bits."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain by now. What might still become a tag is held back."""
        if self._state == "answer":
            return [Piece(PieceKind.TEXT, text)] if text else []
        self._held += text
        pieces: list[Piece] = []
        if self._state == "start":
            begun = self._held.lstrip()
            if not begun or (len(begun) < len(OPEN) and OPEN.startswith(begun)):
                return []
            if not begun.startswith(OPEN):
                return self._answer(self._held)
            self._state, self._held = "thinking", begun[len(OPEN) :]
        if self._state == "thinking":
            thoughts, closed, rest = self._held.partition(CLOSE)
            if closed:
                self._state, self._held = "gap", rest
            else:
                keep = next(n for n in range(len(CLOSE) - 1, -1, -1) if self._held.endswith(CLOSE[:n]))
                thoughts = self._held[: len(self._held) - keep]
                self._held = self._held[len(thoughts) :]
            if thoughts:
                pieces.append(Piece(PieceKind.REASONING, thoughts))
        if self._state == "gap" and (answer := self._held.lstrip()):  # after the blank lines behind the thoughts
            pieces += self._answer(answer)
        return pieces

    def end(self) -> list[Piece]:
        """What was held back when the text ended."""
        held, self._held = self._held, ""
        if not held or self._state == "gap":
            return []
        return [Piece(PieceKind.REASONING if self._state == "thinking" else PieceKind.TEXT, held)]

    def _answer(self, text: str) -> list[Piece]:
        self._state, self._held = "answer", ""
        return [Piece(PieceKind.TEXT, text)]
