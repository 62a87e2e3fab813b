"""A context without a model: it holds tokens as llama.cpp's memory does, and objects to what that would not allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llmctl.engine.llama_cpp.context import DecodeError, Row

VOCABULARY = 50


def following(tokens: Sequence[int]) -> int:
    """What this model says behind ``tokens``: another thing for each sequence of them."""
    return (sum((at + 1) * token for at, token in enumerate(tokens)) * 31 + 7) % VOCABULARY


@dataclass
class Memory:
    """``can_cut``: false for a recurrent model. A batch with one of ``failing`` tokens fails as a whole. ``batches``
    are those that were computed, each of which took ``token_s`` for a token by the clock ``now_s``."""

    sequences: int
    length: int = 64
    batch: int = 32
    can_cut: bool = True
    failing: frozenset[int] = frozenset()
    token_s: float = 0.0
    now_s: float = 0.0
    batches: list[list[Row]] = field(default_factory=list)
    copies: int = 0
    pointer: Memory = field(init=False)

    def __post_init__(self) -> None:
        self.held: list[list[int]] = [[] for _ in range(self.sequences)]
        self.logits: dict[int, int] = {}
        self.pointer = self

    def decode(self, rows: Sequence[Row]) -> None:
        assert 0 < len(rows) <= self.batch
        if any(row.token in self.failing for row in rows):
            raise DecodeError("llama_decode returned -1")
        self.batches.append(list(rows))
        self.now_s += self.token_s * len(rows)
        self.logits = {}
        for at, row in enumerate(rows):
            held = self.held[row.sequence]
            assert row.position == len(held), "a hole in a sequence, or a token twice"
            held.append(row.token)
            assert len(held) <= self.length, "more than the sequence has room for"
            if row.wants_next:
                self.logits[at] = following(held)

    def keep(self, sequence: int, length: int) -> bool:
        held = self.held[sequence]
        if length == len(held) or (self.can_cut and length < len(held)):
            del held[length:]
            return True
        held.clear()
        return length == 0

    def copy(self, source: int, target: int) -> None:
        self.copies += 1
        self.held[target] = list(self.held[source])


class Likeliest:
    """A sampler for ``Memory``, which counts how many of its kind are open."""

    opened = 0

    def __init__(self) -> None:
        Likeliest.opened += 1

    def sample(self, context: Memory, row: int) -> int:
        return context.logits[row]

    def close(self) -> None:
        Likeliest.opened -= 1
