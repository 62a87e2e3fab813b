"""From the tokens of an answer to its text and thoughts."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llmctl.engine.llama_cpp.vocabulary import Vocabulary
from llmctl.thoughts.marks import Marks
from llmctl.thoughts.splitter import ThoughtSplitter, keep
from llmctl.types.piece import Piece, PieceKind


@dataclass
class Answer:
    """What has been sampled, and what of it is certain."""

    vocabulary: Vocabulary
    opened: Marks | None
    stop: tuple[str, ...]
    tokens: list[int] = field(default_factory=list)
    finish: str | None = None

    def __post_init__(self) -> None:
        rows = self.vocabulary.rows
        self._splitter = ThoughtSplitter(rows, opened=self.opened, lone=self.vocabulary.lone)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # the beginning of what may be a text to stop at
        self._stopped = False
        self._control: set[str] = set()

    def closes_thought(self, token: int) -> bool:
        """Whether a token that ends an answer ends a thought here: <|end|> does both."""
        return self.vocabulary.text(token) in self._splitter.closes

    def add(self, token: int) -> list[Piece]:
        self.tokens.append(token)
        written = self.vocabulary.bytes_of(token)
        if not written and (mark := self.vocabulary.mark(token)):
            self._control.add(mark)
            return self._certain(self._splitter.feed(self._decoder.decode(b"", final=True) + mark))
        return self._certain(self._splitter.feed(self._decoder.decode(written)))

    def end(self) -> list[Piece]:
        pieces = self._splitter.feed(self._decoder.decode(b"", final=True))
        pieces = self._certain([*pieces, *self._splitter.end(complete=self.finish == "stop")])
        held, self._held = self._held, ""
        return [*pieces, Piece(PieceKind.TEXT, held)] if held else pieces

    def _certain(self, pieces: list[Piece]) -> list[Piece]:
        """Without control tokens that were no mark where they stood, and cut at the texts to stop at."""
        certain = []
        for piece in pieces:
            text = piece.text
            for mark in self._control:
                text = text.replace(mark, "")
            if piece.kind is PieceKind.TEXT and self.stop:
                text = self._until_stop(text)
            if text or piece.kind is PieceKind.THOUGHTS_SO_FAR:
                certain.append(Piece(piece.kind, text))
        return certain

    def _until_stop(self, text: str) -> str:
        if self._stopped:
            return ""
        text, self._held = self._held + text, ""
        at = min((at for at in map(text.find, self.stop) if at >= 0), default=-1)
        if at >= 0:
            self.finish, self._stopped = "stop", True
            return text[:at]
        certain, self._held = keep(text, self.stop)
        return certain


def behind_the_last_message(prompt: str, messages: Sequence[Mapping[str, str]], rows: Sequence[Marks]) -> str:
    """What the template has written behind the last message, in which there may be anything. Marks are no part of
    its words: "hi" is not the middle of <think>."""
    marks = [mark for row in rows for mark in (*row.open, *row.close)]
    masked, said = prompt, messages[-1]["content"].strip()
    for mark in marks:
        masked, said = (text.replace(mark, "\0" * len(mark)) for text in (masked, said))
    at = masked.rfind(said) if said else -1
    return prompt if at < 0 else prompt[at + len(said) :]
