"""Which slots of a context are taken, which tokens each holds, and which one a prompt should get. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct

WORTH_COPYING = 64  # tokens: reading fewer again costs less than copying a sequence's memory
# Tokens of a prompt that are computed anyhow. One alone takes other kernels than several do, which round differently:
# a question that is asked again would be answered in other words.
LEAST_FRESH = 8
MOSTLY = 0.5  # of a sequence's tokens: where a prompt shares fewer, they are rather kept for somebody else


@dataclass(eq=False)
class Slot:
    """Room for one sequence of a context. ``tokens`` have been computed and are in its memory; ``prompt`` is what
    whoever has taken it is going to put there; ``is_private``: it isn't for others to find."""

    number: int
    tokens: list[int] = field(default_factory=list)
    prompt: Sequence[int] = ()
    is_taken: bool = False
    is_private: bool = False
    released: int = 0  # the number of the release, the higher the later


class Place(Struct, frozen=True):
    """Where a prompt is to be computed: the first ``shared`` of its tokens are in the memory of ``source``."""

    slot: Slot
    source: Slot
    shared: int


class Slots:
    """``count`` slots, numbered from 0. ``can_cut``: the end of what one holds can be taken away; where it can't, only
    what goes on where a sequence ends finds anything."""

    def __init__(self, count: int, *, can_cut: bool = True) -> None:
        self.all = [Slot(number) for number in range(count)]
        self._can_cut = can_cut
        self._releases = 0

    @property
    def free(self) -> list[Slot]:
        return [slot for slot in self.all if not slot.is_taken]

    @property
    def _public(self) -> list[Slot]:
        return [slot for slot in self.all if not slot.is_private]

    def place(self, prompt: Sequence[int], *, uses_cache: bool = True) -> Place | None:
        """The best place for a prompt; None if it has to wait: for a slot, or for one that is reading the same
        beginning just now. The last tokens of the prompt are left to be computed. Nothing is taken yet."""
        free = self.free
        if not free:
            return None
        oldest = min(free, key=lambda slot: (bool(slot.tokens), slot.released, slot.number))
        if not uses_cache:
            return Place(oldest, oldest, 0)
        best, shared = self._longest(prompt)
        if self._can_cut and self._promised(prompt) >= shared + WORTH_COPYING:
            return None
        if not best.is_taken and shared >= (MOSTLY if self._can_cut else 1) * len(best.tokens):
            return Place(best, best, shared)
        if self._can_cut and shared >= WORTH_COPYING:
            return Place(oldest, best, shared)
        return Place(oldest, oldest, shared_length(oldest.tokens, prompt))

    def held(self, prompt: Sequence[int]) -> int:
        """How much of ``prompt`` the sequence holds that holds most of it."""
        return max((shared_length(slot.tokens, prompt) for slot in self._public), default=0)

    def _promised(self, prompt: Sequence[int]) -> int:
        """How much of ``prompt`` will be there when all have read theirs."""
        return max((shared_length(slot.prompt, prompt) for slot in self._public if slot.is_taken), default=0)

    def _longest(self, prompt: Sequence[int]) -> tuple[Slot, int]:
        """The sequence that holds the longest beginning of ``prompt``, one that is free if there are several."""
        lengths = [(shared_length(slot.tokens, prompt), not slot.is_taken, slot) for slot in self._public]
        shared, _, best = max(lengths, key=lambda length: length[:2])
        return best, shared

    def take(self, slot: Slot, prompt: Sequence[int], kept: int, *, is_private: bool = False) -> None:
        """``kept`` tokens of ``prompt`` are in its memory, and nothing else."""
        assert not slot.is_taken
        slot.is_taken, slot.is_private = True, is_private
        slot.prompt = prompt
        slot.tokens = list(prompt[:kept])

    def release(self, slot: Slot) -> None:
        """What it holds stays until somebody needs the place; of a private one nothing stays."""
        assert slot.is_taken
        if slot.is_private:
            slot.tokens, slot.is_private = [], False
        self._releases += 1
        slot.is_taken, slot.prompt, slot.released = False, (), self._releases


def shared_length(held: Sequence[int], prompt: Sequence[int]) -> int:
    """How many tokens at the beginning are the same, all but the prompt's last LEAST_FRESH at most."""
    most = min(len(held), max(0, len(prompt) - LEAST_FRESH))
    if held[:most] == prompt[:most]:
        return most
    return next((at for at in range(most) if held[at] != prompt[at]), most)
