"""Asking the engine on this machine, with the same client: the way to it doesn't break, only the engine does."""

from __future__ import annotations

import re
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from msgspec.structs import replace

from llmctl.endpoint.client import chat, request_body
from llmctl.endpoint.document import posted
from llmctl.endpoint.timing import ChatTiming
from llmctl.errors import DecodingError, EngineError, NetworkError
from llmctl.net import host_of
from llmctl.types.engine import LoadedEngine
from llmctl.types.event import Event
from llmctl.types.request import Request

DECODING_FAILED = "decoding failed"  # the worker's words for a request that it took and could not compute
FAILED = re.compile(r" answered 5\d\d\b")  # as the client tells what llama-server says then
# A machine that swaps takes its time, and is watched.
ENGINE = ChatTiming(silent_s=600.0, between_s=600.0, after_finish_s=30.0)


def prepare() -> None:
    """Begins to import what asking takes, in a thread: an engine that loads is waited for meanwhile."""
    threading.Thread(target=import_module, args=("llmctl.net.loopback",), daemon=True).start()


def ask(engine: LoadedEngine, request: Request) -> Generator[Event, None, None]:
    """Events, the last of them Finished. Raises EngineDiedError, DecodingError, ContextError, UsageError for a request
    that it can't serve, and EngineError for a model that can't answer it."""
    with _translated(engine):
        body = request_body(engine.address, _with_prompt_cache(request))
        yield from chat(engine.address, body, tries=1, timing=ENGINE, own_engine=True)


def ask_document(engine: LoadedEngine, path: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to one request that isn't streamed; ``path`` is the part of its address behind /v1. Raises as
    ``ask``."""
    with _translated(engine):
        return posted(engine.address, path, {"model": engine.address.model, **fields}, timing=ENGINE)


@contextmanager
def _translated(engine: LoadedEngine) -> Iterator[None]:
    try:
        yield
    except (NetworkError, EngineError) as error:
        from llmctl.engine.death import remedy

        _, failed, why = error.message.partition(DECODING_FAILED)
        if failed:
            raise DecodingError(f"the engine failed: {failed}{why}", hint=remedy()) from error
        if isinstance(error, NetworkError) and FAILED.search(error.message):
            raise DecodingError(f"the engine failed: {error.message}", hint=remedy()) from error
        if isinstance(error, NetworkError):
            raise engine.death() from error
        words = error.message.removeprefix(f"{host_of(engine.address.url)} refused the request (400): ")
        raise EngineError(words, hint=error.hint or "llmctl doctor") from error


def _with_prompt_cache(request: Request) -> Request:
    """``request`` with the field that lets our worker keep the prompt's beginning on disk, where it may."""
    if not request.prompt_cache_bytes or request.private:
        return request
    extra = {**(request.sampling.extra or {}), "prompt_cache_bytes": request.prompt_cache_bytes}
    return replace(request, sampling=replace(request.sampling, extra=extra))
