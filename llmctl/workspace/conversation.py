"""A conversation: what was said, what of it goes with the next prompt, and how many tokens that takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from llmctl.types.request import ImagePart, Message, TextPart

GUESSED_BYTES_PER_TOKEN = 3.0  # English prose has four to five and source code some three: errs to the safe side
BYTES_PER_TOKEN_BOUNDS = (0.5, 6.0)
SUMMARY_TITLE = "Summary of our conversation so far:"
FRAME_BYTES = 24  # what a chat template writes around each message


class Turn(Struct, frozen=True):
    """A prompt, the images with it, and its answer. ``whole`` is False where somebody stopped the answer; ``endpoint``
    is the server that gave it, None for this machine."""

    prompt: str
    answer: str
    whole: bool = True
    endpoint: str | None = None
    images: tuple[ImagePart, ...] = ()


class Conversation(Struct, frozen=True):
    """``dropped`` counts the oldest turns, which are kept for the record and no longer sent; ``summary`` is sent in
    their place where the model has summed them up."""

    system: str | None = None
    turns: tuple[Turn, ...] = ()
    dropped: int = 0
    summary: str | None = None

    @property
    def sent(self) -> tuple[Turn, ...]:
        """The turns that go with the next prompt."""
        return self.turns[self.dropped :]

    def messages(self, prompt: str | None = None, images: Sequence[ImagePart] = ()) -> list[Message]:
        """What is sent: the system message with the summary, the turns that weren't dropped, and ``prompt`` behind its
        ``images``."""
        summary = None if self.summary is None else f"{SUMMARY_TITLE}\n{self.summary}"
        instructions = "\n\n".join(filter(None, (self.system, summary)))
        made = [Message.of("system", instructions)] if instructions else []
        for turn in self.sent:
            made += [_prompt(turn.prompt, turn.images), Message.of("assistant", turn.answer)]
        return made if prompt is None else [*made, _prompt(prompt, images)]

    def with_turn(self, turn: Turn) -> Conversation:
        return replace(self, turns=(*self.turns, turn))

    def without_last(self) -> Conversation:
        turns = self.turns[:-1]
        return replace(self, turns=turns, dropped=min(self.dropped, len(turns)))

    def dropping(self, number: int) -> Conversation:
        """Without ``number`` more of the oldest turns."""
        return replace(self, dropped=min(self.dropped + number, len(self.turns)))

    def first(self, number: int) -> Conversation:
        """Of the turns that are sent the oldest ``number`` alone."""
        return replace(self, turns=self.turns[: self.dropped + number])

    def summed_up(self, number: int, summary: str) -> Conversation:
        """With ``summary`` in place of ``number`` more of the oldest turns, and of the summary there was."""
        return replace(self.dropping(number), summary=summary)


class TokenEstimate(Struct, frozen=True):
    """How many tokens messages take, by the bytes that a token has taken so far."""

    bytes_per_token: float = GUESSED_BYTES_PER_TOKEN

    @classmethod
    def measured(cls, messages: Sequence[Message], tokens: int) -> TokenEstimate:
        """By ``messages`` that an engine has counted."""
        low, high = BYTES_PER_TOKEN_BOUNDS
        return cls(min(max(_bytes(messages) / max(tokens, 1), low), high))

    def tokens(self, messages: Sequence[Message]) -> int:
        return math.ceil(_bytes(messages) / self.bytes_per_token)

    def smaller(self) -> TokenEstimate:
        """After an engine has counted more tokens than this."""
        return TokenEstimate(max(self.bytes_per_token * 0.8, BYTES_PER_TOKEN_BOUNDS[0]))


def turns_to_drop(conversation: Conversation, prompt: str, room: int, estimate: TokenEstimate) -> int | None:
    """How many of the oldest turns have to go until the rest and ``prompt`` take ``room`` tokens at most; None where
    they are too long without any turn."""
    for number in range(len(conversation.sent) + 1):
        if estimate.tokens(conversation.dropping(number).messages(prompt)) <= room:
            return number
    return None


def _prompt(text: str, images: Sequence[ImagePart]) -> Message:
    return Message("user", (*images, TextPart(text)))


def _bytes(messages: Sequence[Message]) -> int:
    return sum(len(message.text.encode("utf-8", "replace")) + FRAME_BYTES for message in messages)
