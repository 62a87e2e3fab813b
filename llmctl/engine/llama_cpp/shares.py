"""What a step computes for each of the generations that take part in it. Pure, but for the account."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from llmctl.engine.llama_cpp.context import Row
from llmctl.engine.llama_cpp.generation import Generation
from llmctl.engine.llama_cpp.slots import Slot


class Share(Struct, frozen=True):
    """What a step computes for one generation: ``tokens`` and, behind them, those that were drafted in ``draft_s``."""

    generation: Generation
    slot: Slot
    tokens: Sequence[int]
    drafted: Sequence[int] = ()
    draft_s: float = 0.0

    @property
    def reads(self) -> bool:
        return not self.generation.is_writing

    @property
    def wants_next(self) -> bool:
        return self.generation.is_writing or len(self.tokens) == self.generation.left

    @property
    def rows(self) -> Iterable[Row]:
        first, last = self.generation.pictures.position(len(self.slot.tokens)), len(self.tokens) - 1
        for at, token in enumerate((*self.tokens, *self.drafted)):
            yield Row(token, first + at, self.slot.number, at >= last and self.wants_next)


def computed_together(shares: Sequence[Share]) -> Iterator[Sequence[Share]]:
    """Each of those that are to be repeatable by itself, the others all at once."""
    together = [share for share in shares if not share.generation.is_repeatable]
    yield from ([together] if together else [])
    yield from ([share] for share in shares if share.generation.is_repeatable)


def chunk(generation: Generation, count: int) -> Share:
    """The next ``count`` tokens of its prompt."""
    assert generation.slot is not None
    begin = len(generation.slot.tokens)
    return Share(generation, generation.slot, generation.prompt[begin : begin + count])


def account(share: Share, accepted: int, seconds: float, *, is_alone: bool, is_decoding: bool) -> None:
    """Adds a step to what was computed; ``accepted`` of the drafted tokens came."""
    work, drafter, drafted = share.generation.work, share.generation.drafter, len(share.drafted)
    work.was_alone &= is_alone
    if not is_decoding:
        work.add_prefill(len(share.tokens), seconds)
        return
    work.add_decoding(drafted, accepted, seconds, share.draft_s)
    if drafter is not None and is_alone:
        drafter.took(1 + drafted, 1 + accepted, seconds)
