"""Asking the engine on this machine, with the same client: the way to it doesn't break, only the engine does."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from llmctl.endpoint.client import chat, request_body
from llmctl.engine.supervise import Engine
from llmctl.errors import NetworkError
from llmctl.types.answer import Finished, Message, Piece, Sampling


def ask(engine: Engine, messages: Sequence[Message], sampling: Sampling) -> Generator[Piece | Finished, None, None]:
    """Pieces, then one Finished. Raises EngineDiedError, ContextError, and EngineError for what it refuses."""
    try:
        yield from chat(engine.address, request_body(engine.address, messages, sampling), tries=1, own_engine=True)
    except NetworkError as error:
        raise engine.death() from error
