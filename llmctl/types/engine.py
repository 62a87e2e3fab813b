"""Engines: which there are, and one that has loaded its model and answers on this machine."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from llmctl.errors import EngineError
    from llmctl.types.endpoint import Address


class ServerSource(StrEnum):
    """How a program of llama-server is known: by the setting, built by llmctl, or found on PATH."""

    SETTING = "setting"
    BUILT = "built"
    PATH = "path"


class NativeServer(Struct, frozen=True):
    """A program of llama-server that can be started. ``build`` is what it says of itself, "llama-server 0.5.0 (b1234)";
    ``changed_ns`` is when its file was written last. ``gpus`` are those that it sees where llama-cpp-python sees none:
    no plan counts on them, so it places layers on them by itself."""

    path: str
    source: ServerSource
    build: str
    changed_ns: int
    gpus: tuple[str, ...] = ()


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
