"""An engine that has loaded its model and answers on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from llmctl.errors import EngineError
    from llmctl.types.endpoint import Address


class LoadedEngine(Protocol):
    """``build`` names the engine to the commit: "llama-cpp-python 0.3.36, ggml 0.25.3 d25f87b". ``load_s`` is how long
    it took until it answered. Without ``has_chat_template`` it continues text instead of answering it. ``sequences``
    is how many requests it answers at once, each in the whole context."""

    @property
    def address(self) -> Address: ...

    @property
    def pid(self) -> int: ...

    @property
    def load_s(self) -> float: ...

    @property
    def has_chat_template(self) -> bool: ...

    @property
    def build(self) -> str: ...

    @property
    def sequences(self) -> int: ...

    @property
    def was_warm(self) -> bool:
        """Whether it had stayed from an earlier use: then ``load_s`` is the time that it took to find it."""

    def death(self) -> EngineError:
        """Why the process ended, to be raised by whoever noticed that it has."""
