"""Pieces of an answer, and the receipt of what was executed."""

from __future__ import annotations

from msgspec import Struct

from llmctl.types.endpoint import LeaveReason, Side
from llmctl.types.piece import Piece as Piece
from llmctl.types.piece import PieceKind as PieceKind
from llmctl.types.plan import Basis


class Usage(Struct, frozen=True):
    prompt_tokens: int | None
    completion_tokens: int | None


class Measured(Struct, frozen=True):
    """What loading the model and answering have added to the engine's memory, to hold against ``must_fit_bytes``; None
    where the system doesn't tell.

    ``anonymous_bytes`` is the process's own memory, swap included, without the mapped file and without what the process
    had before (Python and the engine's libraries, some 20 MB). It stays below what was predicted, because a compute
    buffer is reserved for a whole batch and touched only as far as it is used. ``device_bytes`` is what the cards have
    less of than before.
    """

    anonymous_bytes: int | None
    device_bytes: int | None


class Finished(Struct, frozen=True):
    """The last thing a stream yields. What prefill and decode took is known only where the server reports it, as
    llama.cpp's do; what memory, only of the engine here. ``prefill_tokens`` leaves out what the cache still held;
    ``preempted_per_s`` is how often another program took a core from the engine, for each second that one computed."""

    finish_reason: str | None
    usage: Usage
    prefill_tokens: int | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    measured: Measured | None = None
    preempted_per_s: float | None = None


class Executed(Struct, frozen=True):
    """The route that *executed*, whatever was planned; ``left_because`` is None for what was answered here."""

    side: Side
    endpoint: str | None
    model: str
    quant: str | None
    reason: str
    left_because: LeaveReason | None = None


class Timings(Struct, frozen=True):
    """``load_s`` is None when nothing was loaded here; rates are None where they could not be measured."""

    load_s: float | None
    first_token_s: float | None
    prefill_tok_s: float | None
    decode_tok_s: float | None
    total_s: float


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
