"""Which engine answers on this machine, and why. Pure.

| asked for | llama-cpp-python | llama-server | answers |
| --- | --- | --- | --- |
| llama-cpp | any | any | llama-cpp-python |
| llama-server | any | there is one | llama-server |
| llama-server | any | none | an error |
| nothing | can be used | any | llama-cpp-python |
| nothing | can't be used | there is one | llama-server |
| nothing | can't be used | none | llama-cpp-python, which says why it can't |
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from llmctl.errors import EngineError
from llmctl.types.engine import EngineName, NativeServer
from llmctl.types.machine import EngineInfo

INSTALL = "llmctl engine install llama-server"


class EngineChoice(Struct, frozen=True):
    """``server`` is the llama-server that answers, None for llama-cpp-python; ``reason`` is told where nobody has asked
    for it."""

    server: NativeServer | None = None
    reason: str | None = None


def choice(
    asked: EngineName | None, worker: EngineInfo | None, find_server: Callable[[], NativeServer | None]
) -> EngineChoice:
    """``worker`` is llama-cpp-python, None where nothing is known of it; ``find_server`` looks for a llama-server, and
    is called only where that matters. Raises EngineError where what was asked for is not there."""
    if asked is EngineName.LLAMA_CPP:
        return EngineChoice()
    if asked is EngineName.LLAMA_SERVER:
        server = find_server()
        if server is None:
            raise EngineError("there is no llama-server on this machine that can be used", hint=INSTALL)
        return EngineChoice(server)
    if worker is None or worker.usable:
        return EngineChoice()
    server = find_server()
    return EngineChoice() if server is None else EngineChoice(server, f"{worker.name} can't be used here: {worker.why}")
