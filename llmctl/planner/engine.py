"""Which engine answers on this machine, and why. Pure.

| asked for | llama-cpp-python | llama-server | answers |
| --- | --- | --- | --- |
| llama-cpp | any | any | llama-cpp-python |
| llama-server | any | there is one | llama-server |
| llama-server | any | none | an error |
| nothing | can be used | sees the only GPU that any of them sees | llama-server |
| nothing | can be used | any other | llama-cpp-python |
| nothing | can't be used | there is one | llama-server |
| nothing | can't be used | none | llama-cpp-python, which says why it can't |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from llmctl.errors import EngineError
from llmctl.types.engine import NativeServer
from llmctl.types.engine_name import EngineName
from llmctl.types.machine import Accelerator, EngineInfo

INSTALL = "llmctl engine install llama-server"


class EngineChoice(Struct, frozen=True):
    """``server`` is the llama-server that answers, None for llama-cpp-python; ``reason`` is told where nobody has asked
    for it."""

    server: NativeServer | None = None
    reason: str | None = None


def choice(
    asked: EngineName | None,
    worker: EngineInfo | None,
    cards: Sequence[Accelerator],
    find_server: Callable[[], NativeServer | None],
) -> EngineChoice:
    """``worker`` is llama-cpp-python, None where nothing is known of it; ``cards`` are the machine's GPUs as it sees
    them; ``find_server`` looks for a llama-server, and is called only where that matters. Raises EngineError where what
    was asked for is not there."""
    if asked is EngineName.LLAMA_CPP:
        return EngineChoice()
    if asked is EngineName.LLAMA_SERVER:
        server = find_server()
        if server is None:
            raise EngineError("there is no llama-server on this machine that can be used", hint=INSTALL)
        return EngineChoice(server)
    is_usable = worker is None or worker.usable
    if is_usable and (not cards or any(card.usable for card in cards)):
        return EngineChoice()
    server = find_server()
    if server is None or (is_usable and not server.gpus):
        return EngineChoice()
    if worker is not None and not worker.usable:
        return EngineChoice(server, f"{worker.name} can't be used here: {worker.why}")
    return EngineChoice(server, f"it alone sees {', '.join(server.gpus)}; the plan counts on the processor only")
