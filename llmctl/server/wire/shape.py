"""What each API has of its own: how a request is read, and how an engine's answer is written for its callers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from llmctl.server.errors import Problem
from llmctl.types.event import Usage


class AnswerWriter(Protocol):
    """How one answer is written, from that of an engine in OpenAI's shape."""

    ping: ClassVar[bytes]
    """What says in a stream that the answer is still being made."""

    @property
    def usage(self) -> Usage: ...

    def by_another_server(self) -> None:
        """The answer comes from a server that isn't this machine's engine."""

    def begin(self) -> bytes:
        """What a stream begins with, before the engine has said a word."""

    def feed(self, piece: bytes) -> bytes:
        """What is to be sent for a piece of the engine's stream. Raises LlmctlError for an error that it tells."""

    def end(self) -> bytes:
        """What is to be sent after the engine's last piece."""

    def whole(self, document: bytes) -> bytes:
        """The answer that isn't streamed, from the engine's. Raises LlmctlError."""

    def error(self, problem: Problem) -> bytes:
        """What ends a stream that has begun and can't go on."""


class ModelRequest(Protocol):
    """A request that was read. ``model`` as its client names it; ``path`` is where the engine is asked."""

    @property
    def model(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def streams(self) -> bool: ...

    def body(self, model: str, sampling: Mapping[str, Any] | None) -> bytes:
        """For the engine. ``sampling``: fields that hold where the client has set none; None for other servers."""

    def writer(self, model: str) -> AnswerWriter: ...
