"""The gateway on a port of loopback, in a thread, in front of engines that a test has started."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from llmctl.errors import EngineDiedError, LlmctlError, NotFoundError, ResourceError
from llmctl.server import behind
from llmctl.server.app import create_app
from llmctl.server.behind import Handover
from llmctl.server.gateway import Gateway
from llmctl.types.endpoint import Address

LOOK_S = 0.005


@dataclass
class Model:
    """``state`` is that of a model which is loaded, unless the test says something else."""

    address: Address
    name: str
    tasks: tuple[str, ...] = ("chat",)
    context: int = 512
    state: str = "loaded"
    writes: bool = True
    size_bytes: int = 1_000_000
    decode_tok_s: float | None = 12.5
    openness: str | None = "weights"
    licence: str | None = "Apache-2.0"


@dataclass
class Lease:
    model: Model
    models: Models
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> Address:
        return self.model.address

    def failure(self, error: Exception) -> LlmctlError:
        return error if isinstance(error, LlmctlError) else EngineDiedError("the engine died: killed")

    def close(self) -> None:
        self.models.leased -= 1


@dataclass
class Health:
    ready: bool = True
    loading: tuple[str, ...] = ()
    draining: bool = False


class Models:
    """Stands for the models behind a gateway. ``must_wait``: none is leased before it is cleared."""

    def __init__(self, *models: Model) -> None:
        self.models = {model.name: model for model in models}
        self.sampling: dict[str, Any] = {}
        self.leased = 0
        self.must_wait = threading.Event()
        self.health_now = Health()
        self.other: Handover | None = None
        self.raises: LlmctlError | None = None

    def listed(self) -> Sequence[Model]:
        return tuple(self.models.values())

    def resolved(self, name: str) -> str:
        if name in ("auto", "auto:code"):
            return next(iter(self.models))
        if name not in self.models:
            raise NotFoundError(f"there is no model {name!a:.80}", hint="llmctl models")
        return name

    def lease_now(self, name: str, client: str = "") -> Lease | None:
        if self.raises is not None:
            raise self.raises
        if self.must_wait.is_set():
            return None
        self.leased += 1
        return Lease(self.models[name], self, self.sampling)

    def lease(self, name: str, is_gone: Callable[[], bool] = bool, client: str = "") -> Lease:
        while self.must_wait.is_set() and not is_gone():
            time.sleep(LOOK_S)
        lease = self.lease_now(name)
        if lease is None:
            raise ResourceError("nobody waits any more")
        return lease

    def elsewhere(self, error: LlmctlError, private: bool, name: str) -> Handover | None:
        return None if private else self.other

    def health(self) -> Health:
        return self.health_now


@contextmanager
def serving(models: behind.Models, **given: Any) -> Iterator[str]:
    """The address of a gateway, without /v1."""
    listening = socket.create_server(("127.0.0.1", 0))
    gateway = Gateway(create_app(models, **given), listening)
    thread = threading.Thread(target=gateway.run)
    thread.start()
    try:
        while not gateway.is_listening:
            time.sleep(LOOK_S)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        gateway.stop(at_once=True)
        thread.join(timeout=10)
