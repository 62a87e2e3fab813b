"""Asking the engine on this machine, with the same client: the way to it doesn't break, only the engine does."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from llmctl.endpoint.client import chat, request_body
from llmctl.engine.supervise import Engine
from llmctl.errors import DecodingError, EngineError, NetworkError
from llmctl.types.answer import Finished, Message, Piece, Sampling

DECODING_FAILED = "decoding failed"  # the worker's words for a request that it took and could not compute


def ask(engine: Engine, messages: Sequence[Message], sampling: Sampling) -> Generator[Piece | Finished, None, None]:
    """Pieces, then one Finished. Raises EngineDiedError, DecodingError, ContextError, and EngineError for what it
    refuses."""
    try:
        yield from chat(engine.address, request_body(engine.address, messages, sampling), tries=1)
    except (NetworkError, EngineError) as error:
        _, failed, why = error.message.partition(DECODING_FAILED)
        if failed:
            raise DecodingError(f"the engine failed: {failed}{why}", hint="llmctl doctor") from error
        if isinstance(error, NetworkError):
            raise engine.death() from error
        raise
