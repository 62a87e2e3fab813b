"""What an answer is made of as it arrives, from any address that answers."""

from __future__ import annotations

from msgspec import Struct


class Text(Struct, frozen=True):
    """Some of the answer."""

    text: str


class Reasoning(Struct, frozen=True):
    """Some of what the model thinks before it answers."""

    text: str


class ThoughtsSoFar(Struct, frozen=True):
    """All that came as text so far was reasoning."""


class ToolCall(Struct, frozen=True):
    """A function that the model asks for, whole. ``arguments`` is the JSON that it wrote: nobody has checked it."""

    id: str
    name: str
    arguments: str


class EngineNote(Struct, frozen=True):
    """No part of the answer: what the engine says of its work, for a person."""

    text: str


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
    """The last event of a stream. What prefill and decode took is known only where the server reports it, as
    llama.cpp's do; what memory, only of the engine here. ``prefill_tokens`` leaves out what the cache still held;
    ``preempted_per_s`` is how often another program took a core from the engine, for each second that one computed.
    ``accepted_tokens`` of ``drafted_tokens`` were guessed rightly, ``compared_tokens`` are those up to the first wrong
    one of each draft; ``plain_tokens`` took ``plain_s`` in steps without such guesses."""

    finish_reason: str | None
    usage: Usage
    prefill_tokens: int | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    measured: Measured | None = None
    preempted_per_s: float | None = None
    drafted_tokens: int | None = None
    accepted_tokens: int | None = None
    plain_tokens: int | None = None
    plain_s: float | None = None
    compared_tokens: int | None = None


Words = Text | Reasoning | ThoughtsSoFar
Event = Words | ToolCall | EngineNote | Finished
