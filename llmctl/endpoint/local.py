"""Asking the engine on this machine, with the same client: the way to it doesn't break, only the engine does."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from llmctl.endpoint.client import chat, request_body
from llmctl.endpoint.timing import ChatTiming
from llmctl.engine.supervise import Engine
from llmctl.errors import NetworkError
from llmctl.types.answer import Finished, Message, Piece, Sampling

ENGINE = ChatTiming(between_s=600.0, after_finish_s=30.0)  # a machine that swaps takes its time, and is watched


def ask(engine: Engine, messages: Sequence[Message], sampling: Sampling) -> Generator[Piece | Finished, None, None]:
    """Pieces, then one Finished. Raises EngineDiedError, ContextError, and EngineError for what it refuses."""
    try:
        yield from chat(engine.address, request_body(engine.address, messages, sampling), tries=1, timing=ENGINE)
    except NetworkError as error:
        raise engine.death() from error
