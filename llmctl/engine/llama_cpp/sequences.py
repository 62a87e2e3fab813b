"""Which sequences of a context are taken, which tokens each holds, and which one a prompt should get. Pure."""

from __future__ import annotations

from collections.abc import Sequence as Sequence_
from dataclasses import dataclass, field

from msgspec import Struct

WORTH_COPYING = 64  # tokens: reading fewer again costs less than copying a sequence's memory
# Tokens of a prompt that are computed anyhow. One alone takes other kernels than several do, which round differently:
# a question that is asked again would be answered in other words.
LEAST_FRESH = 8
MOSTLY = 0.5  # of a sequence's tokens: where a prompt shares fewer, they are rather kept for somebody else


@dataclass(eq=False)
class Sequence:
    """One of a context's sequences. ``tokens`` have been computed and are in its memory; ``prompt`` is what whoever has
    taken it is going to put there."""

    number: int
    tokens: list[int] = field(default_factory=list)
    prompt: Sequence_[int] = ()
    is_taken: bool = False
    released: int = 0  # the number of the release, the higher the later


class Place(Struct, frozen=True):
    """Where a prompt is to be computed: the first ``shared`` of its tokens are in the memory of ``source``."""

    sequence: Sequence
    source: Sequence
    shared: int


class Sequences:
    """``count`` sequences, numbered from 0."""

    def __init__(self, count: int) -> None:
        self.all = [Sequence(number) for number in range(count)]
        self._releases = 0

    @property
    def free(self) -> list[Sequence]:
        return [sequence for sequence in self.all if not sequence.is_taken]

    def place(self, prompt: Sequence_[int], *, uses_cache: bool = True) -> Place | None:
        """The best place for a prompt; None if it has to wait: for a sequence, or for one that is reading the same
        beginning just now. The last tokens of the prompt are left to be computed. Nothing is taken yet."""
        free = self.free
        if not free:
            return None
        oldest = min(free, key=lambda sequence: (bool(sequence.tokens), sequence.released, sequence.number))
        if not uses_cache:
            return Place(oldest, oldest, 0)
        best, shared = self._longest(prompt)
        promised = max((_shared(sequence.prompt, prompt) for sequence in self.all if sequence.is_taken), default=0)
        if promised >= shared + WORTH_COPYING:
            return None
        if not best.is_taken and shared >= MOSTLY * len(best.tokens):
            return Place(best, best, shared)
        if shared >= WORTH_COPYING:
            return Place(oldest, best, shared)
        return Place(oldest, oldest, _shared(oldest.tokens, prompt))

    def _longest(self, prompt: Sequence_[int]) -> tuple[Sequence, int]:
        """The sequence that holds the longest beginning of ``prompt``, one that is free if there are several."""
        lengths = [(_shared(sequence.tokens, prompt), not sequence.is_taken, sequence) for sequence in self.all]
        shared, _, best = max(lengths, key=lambda length: length[:2])
        return best, shared

    def take(self, sequence: Sequence, prompt: Sequence_[int], kept: int) -> None:
        """``kept`` tokens of ``prompt`` are in its memory, and nothing else."""
        assert not sequence.is_taken
        sequence.is_taken = True
        sequence.prompt = prompt
        sequence.tokens = list(prompt[:kept])

    def release(self, sequence: Sequence) -> None:
        """What it holds stays until somebody needs the place."""
        assert sequence.is_taken
        self._releases += 1
        sequence.is_taken, sequence.prompt, sequence.released = False, (), self._releases


def _shared(held: Sequence_[int], prompt: Sequence_[int]) -> int:
    """How many tokens at the beginning are the same, all but the prompt's last LEAST_FRESH at most."""
    most = min(len(held), max(0, len(prompt) - LEAST_FRESH))
    if held[:most] == prompt[:most]:
        return most
    return next(at for at in range(most) if held[at] != prompt[at])
