"""An answer, and the receipt of what was executed."""

from __future__ import annotations

from msgspec import Struct

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
    without headers), and whether the way was encrypted."""

    host: str
    bytes: int
    tls: bool


class Predicted(Struct, frozen=True):
    decode_tok_s: float
    must_fit_bytes: int
    basis: Basis


class Answer(Struct, frozen=True):
    text: str
    reasoning: str | None
    route: Executed
    usage: Usage
    timings: Timings
    predicted: Predicted | None
    left_machine: LeftMachine | None
    finish_reason: str | None
    measured: Measured | None = None
