"""An answer, and the receipt of what was executed."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from llmctl.types.endpoint import LeaveReason, Side
from llmctl.types.event import Measured, Usage
from llmctl.types.plan import Basis


class Executed(Struct, frozen=True):
    """The route that *executed*, whatever was planned; ``left_because`` is None for what was answered here."""

    side: Side
    endpoint: str | None
    model: str
    quant: str | None
    reason: str
    left_because: LeaveReason | None = None


class Timings(Struct, frozen=True):
    """``load_s`` is None when nothing was loaded here; rates are None where they could not be measured.
    ``accepted_tokens`` of ``drafted_tokens`` were guessed rightly; None where the server doesn't tell."""

    load_s: float | None
    first_token_s: float | None
    prefill_tok_s: float | None
    decode_tok_s: float | None
    total_s: float
    drafted_tokens: int | None = None
    accepted_tokens: int | None = None


class LeftMachine(Struct, frozen=True):
    """What left: to whom, how many bytes of request bodies were handed to the system for sending (those of every try,
    without headers), and whether the way was encrypted. ``earlier`` is what servers had got that were asked before.
    ``sealed`` is the fingerprint of the key that it was sealed for, None where it wasn't."""

    host: str
    bytes: int
    tls: bool
    earlier: tuple[LeftMachine, ...] = ()
    sealed: str | None = None

    @property
    def total_bytes(self) -> int:
        return self.bytes + sum(left.bytes for left in self.earlier)

    def and_sent(self, more: LeftMachine) -> LeftMachine:
        """This, and ``more``."""
        if (more.host, more.tls, more.sealed) == (self.host, self.tls, self.sealed):
            return replace(self, bytes=self.bytes + more.bytes)
        return replace(more, earlier=(*self.earlier, replace(self, earlier=())))


class Predicted(Struct, frozen=True):
    decode_tok_s: float
    must_fit_bytes: int
    basis: Basis


class CitedSource(Struct, frozen=True):
    """An excerpt of the user's own texts that stood before the question. ``file`` is its path from the index's folder;
    lines count from 1; ``score``, 0 to 1, is to be compared within one answer."""

    file: str
    from_line: int
    to_line: int
    score: float


class Answer(Struct, frozen=True):
    """``cost`` is what a server's tokens cost by the price that the user has given; ``sources`` are numbered from 1
    where the answer names them."""

    text: str
    reasoning: str | None
    route: Executed
    usage: Usage
    timings: Timings
    predicted: Predicted | None
    left_machine: LeftMachine | None
    finish_reason: str | None
    measured: Measured | None = None
    cost: float | None = None
    sources: tuple[CitedSource, ...] = ()
