"""What stands behind the gateway, as it needs to know it: models that are leased, and the user's own servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from llmctl.errors import LlmctlError
from llmctl.types.endpoint import Address


class ListedModel(Protocol):
    """``context`` is in tokens, for each request; ``tasks`` are those of the catalogue that it is good at. The rest is
    for people who choose: ``size_bytes`` of its file, how fast it is expected to write, how open it is (a ``Level`` of
    ``types.openness``). ``writes``: it answers in words."""

    @property
    def name(self) -> str: ...

    @property
    def tasks(self) -> Sequence[str]: ...

    @property
    def context(self) -> int: ...

    @property
    def state(self) -> str: ...

    @property
    def writes(self) -> bool: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def decode_tok_s(self) -> float | None: ...

    @property
    def openness(self) -> str | None: ...

    @property
    def licence(self) -> str | None: ...


class GatewayHealth(Protocol):
    """``ready``: a request is answered without waiting for a model; ``loading`` names those that are being loaded."""

    @property
    def ready(self) -> bool: ...

    @property
    def loading(self) -> Sequence[str]: ...

    @property
    def draining(self) -> bool: ...


class ModelLease(Protocol):
    """A loaded model, for one request. ``sampling``: the fields of a chat completion that its publisher recommends."""

    @property
    def address(self) -> Address: ...

    @property
    def model(self) -> ListedModel: ...

    @property
    def sampling(self) -> Mapping[str, Any]: ...

    def failure(self, error: Exception) -> LlmctlError:
        """Why the engine ended, after the connection to it broke with ``error``. May take seconds."""

    def close(self) -> None: ...


class Handover(Protocol):
    """A server of the user's that takes a request. ``headers`` tell the client where its prompt went, and are complete
    once it was opened."""

    @property
    def name(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def open(self, path: str, body: bytes) -> tuple[int, Mapping[str, str], Iterator[bytes]]:
        """Status, headers and body of its answer to ``body``, in OpenAI's shape. Blocks. Raises LlmctlError."""


class Models(Protocol):
    """The models of one gateway. Every method may be called by several threads."""

    def listed(self) -> Sequence[ListedModel]: ...

    def resolved(self, name: str) -> str:
        """The name of the model that ``name`` means: ``auto`` and ``auto:TASK`` mean one. Raises NotFoundError."""

    def lease_now(self, name: str, client: str = ...) -> ModelLease | None:
        """A lease on a model that is loaded and has room, else None. Does not wait. Raises LlmctlError."""

    def lease(self, name: str, is_gone: Callable[[], bool] = ..., client: str = ...) -> ModelLease:
        """Waits for room, in turn with other clients, and for the model to be loaded. Raises LlmctlError, also when
        nobody waits any more."""

    def elsewhere(self, error: LlmctlError, private: bool, name: str) -> Handover | None:
        """Who takes a request for the model ``name``, as the client called it, that has failed here with ``error``,
        before anything of its answer was sent. Raises PolicyError for a private one that would leave."""

    def health(self) -> GatewayHealth: ...
