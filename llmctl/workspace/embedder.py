"""What makes vectors of texts for an index: a model of this machine, or a server of the user's."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from llmctl.errors import NetworkError
from llmctl.types.role import Role
from llmctl.workspace.texts import GivenText

if TYPE_CHECKING:
    from llmctl.router.partial_answer import PartialAnswer
    from llmctl.settings import Settings
    from llmctl.types.endpoint import Address, Endpoint
    from llmctl.types.engine import LoadedEngine
    from llmctl.types.listener import Listener
    from llmctl.types.plan import Fit

TASK = "embed"
LONGEST_BYTES = 4000  # of a passage; what a model has no room for of it is left out
FLOAT = "f"  # of the array module
ON_SERVER = "endpoint:"  # before the name of a server, in the name of an embedder


class Embedder(Protocol):
    """``name`` is by what ``opened`` makes the same one again."""

    @property
    def name(self) -> str: ...

    def vectors(self, texts: Sequence[str], role: Role) -> list[bytes]:
        """The vector of each text, in single precision. Raises what engine and server raise."""


class EmbedderAsked(Struct, frozen=True):
    """``model`` as ``EncoderOptions`` has it; ``endpoint`` names a server instead of a model."""

    model: str | None = None
    endpoint: str | None = None
    threads: int | None = None
    yes: bool = False

    @classmethod
    def named(cls, name: str) -> EmbedderAsked:
        """What makes the embedder of that name again, if it is here."""
        is_server = name.startswith(ON_SERVER)
        return cls(endpoint=name.removeprefix(ON_SERVER)) if is_server else cls(model=name)

    @property
    def is_here(self) -> bool:
        """Whether texts stay on this machine."""
        return self.endpoint is None


@contextmanager
def opened(listener: Listener, settings: Settings, asked: EmbedderAsked, *, private: bool) -> Iterator[Embedder]:
    """The embedder, until the end. ``private`` texts go to no server. Raises what ``encoder.chosen`` and
    ``router.route`` raise."""
    on_server = None if asked.endpoint is None else _on_server(listener, settings, asked.endpoint, private)
    with on_server or _here(listener, settings, asked) as embedder:
        yield embedder


@contextmanager
def _here(listener: Listener, settings: Settings, asked: EmbedderAsked) -> Iterator[Embedder]:
    from llmctl.workspace import encoder
    from llmctl.workspace.encoder import EncoderOptions

    options = EncoderOptions(asked.model, threads=asked.threads, truncate=True, local=True, yes=asked.yes)
    fit = encoder.chosen(listener, settings, TASK, options, LONGEST_BYTES)
    with encoder.lent(listener, settings, fit, insist=False) as engine:
        yield _LocalEmbedder(fit, engine, asked.model)


class _LocalEmbedder:
    def __init__(self, fit: Fit, engine: LoadedEngine, model: str | None) -> None:
        from llmctl.workspace.choose import name_of

        self._fit, self._engine = fit, engine
        is_file = model is not None and Path(model).is_file()
        self.name = str(Path(model or "").resolve()) if is_file else model or name_of(fit.candidate)

    def vectors(self, texts: Sequence[str], role: Role) -> list[bytes]:
        from llmctl.workspace import embed

        given = [GivenText(number, text, f"passage {number}") for number, text in enumerate(texts)]
        shape = embed.VectorOptions(None if self._fit.candidate.model.embedding is None else role)
        made = embed.of_texts(self._engine, self._fit, given, shape, truncate=True)
        return [array(FLOAT, vector.embedding).tobytes() for vector in made]


@contextmanager
def _on_server(listener: Listener, settings: Settings, name: str, private: bool) -> Iterator[Embedder]:
    """Raises PolicyError, OfflineError, NotFoundError; the listener hears of it before a byte leaves, and a receipt is
    written of all that has left."""
    from llmctl.endpoint.secrets import address_of
    from llmctl.net import host_of
    from llmctl.router.partial_answer import PartialAnswer
    from llmctl.router.receipts import recorded
    from llmctl.router.route import ASKED_FOR, route
    from llmctl.types.endpoint import LeaveReason

    endpoint = settings.endpoint(name)
    route(None, settings.policy, settings.endpoints, pinned=endpoint, offline=settings.offline, private=private)
    so_far, address = PartialAnswer(), address_of(endpoint)
    listener.leaving(endpoint, host_of(endpoint.url), ASKED_FOR)
    with recorded(endpoint, LeaveReason.PINNED, so_far, listener):
        yield _ServerEmbedder(endpoint, address, so_far)


class _ServerEmbedder:
    def __init__(self, endpoint: Endpoint, address: Address, so_far: PartialAnswer) -> None:
        self._endpoint, self._address, self._so_far = endpoint, address, so_far
        self.name = ON_SERVER + endpoint.name

    def vectors(self, texts: Sequence[str], role: Role) -> list[bytes]:
        from llmctl.endpoint.document import posted_to_server
        from llmctl.endpoint.session import sealed_for
        from llmctl.endpoint.timing import timing_of
        from llmctl.net import host_of

        host, tls = host_of(self._address.url), self._address.url.startswith("https:")
        sealed = sealed_for(self._address)
        fields = {"model": self._endpoint.model, "input": list(texts), "encoding_format": "float"}
        answer = posted_to_server(
            self._address,
            "/embeddings",
            fields,
            timing=timing_of(self._endpoint.limits),
            on_sent=lambda count: self._so_far.sent(count, host, tls=tls, sealed=sealed),
        )
        return _vectors(answer, len(texts), host)


def _vectors(answer: Mapping[str, Any], number: int, host: str) -> list[bytes]:
    """Raises NetworkError for an answer that has not so many vectors."""
    try:
        rows = sorted(answer["data"], key=lambda row: int(row["index"]))
        made = [array(FLOAT, map(float, row["embedding"])).tobytes() for row in rows]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise NetworkError(f"{host} sent something that is no list of vectors") from error
    if len(made) != number or len(set(map(len, made))) != 1 or not made[0]:
        raise NetworkError(f"{host} sent {len(made)} vectors for {number} texts")
    return made
