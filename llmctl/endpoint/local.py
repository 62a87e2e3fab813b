"""Asking the engine on this machine, with the same client: the way to it doesn't break, only the engine does."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from llmctl.endpoint.client import chat, request_body
from llmctl.engine.supervise import Engine
from llmctl.errors import EngineDiedError, EngineError, NetworkError
from llmctl.net import host_of
from llmctl.types.answer import Finished, Message, Piece, Sampling

DECODING_FAILED = "decoding failed"  # the worker's words for a failure of llama.cpp


def ask(engine: Engine, messages: Sequence[Message], sampling: Sampling) -> Generator[Piece | Finished, None, None]:
    """Pieces, then one Finished. Raises EngineDiedError, ContextError, and EngineError for what it refuses."""
    name = host_of(engine.address.url)
    try:
        yield from chat(engine.address, request_body(engine.address, messages, sampling), tries=1, own_engine=True)
    except NetworkError as error:
        if DECODING_FAILED in error.message:
            raise EngineDiedError(error.message.partition(": ")[2], hint="llmctl doctor") from error
        raise engine.death() from error
    except EngineError as error:
        if type(error) is not EngineError:
            raise
        words = error.message.removeprefix(f"{name} refused the request (400): ")
        raise EngineError(words, hint=error.hint or "llmctl doctor") from error
