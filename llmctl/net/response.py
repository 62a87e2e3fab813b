"""An answer whose head was read and whose body was not, whichever library has read it."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from llmctl.net.exchange import Exchange


class Response(Protocol):
    """What llmctl uses of an answer: ``requests.Response`` has it, and the one of ``net.loopback``. ``raw`` reads the
    body, undecoded, by ``read1(most_bytes, decode_content=False)``."""

    raw: Any
    status_code: int
    url: str

    @property
    def headers(self) -> Mapping[str, str]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class AskingSession(Protocol):
    """What asking an engine takes of a session: ``ask`` sends one request and returns its answer."""

    exchange: Exchange
    headers: Any

    def ask(self, method: str, url: str, *, data: bytes, headers: Mapping[str, str]) -> Response: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def exchange_of(response: Response) -> Exchange:
    """What ``response`` is a part of; it was made by a session's ``ask``."""
    exchange: Exchange = response.exchange  # type: ignore[attr-defined]
    return exchange
