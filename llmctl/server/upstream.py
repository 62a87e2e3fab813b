"""Asks whoever answers: an engine on this machine, or a server of the user's. Both answer in OpenAI's shape."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from msgspec import Struct

from llmctl.errors import ContextError, DecodingError
from llmctl.server.behind import Handover, ModelLease
from llmctl.server.blocking import BlockingCalls
from llmctl.server.errors import Problem, ProblemError
from llmctl.types.endpoint import Address

ROOT = "/v1"
PAGE_LIMIT_BYTES = 64 << 10
Piece = bytes | Exception | None
"""Of an answer that a thread reads: what has come, why nothing more comes, or its end."""


class EngineAnswer(Struct, frozen=True):
    """``pieces`` of the body as they come. Reading them raises LlmctlError when the way to it breaks."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


class Upstream:
    """One for a gateway, made and closed in its event loop."""

    def __init__(self, threads: BlockingCalls) -> None:
        self._threads = threads
        self._tcp = _session(aiohttp.TCPConnector(limit=0))  # the models' queue limits requests
        self._by_socket: dict[str, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        for session in (self._tcp, *self._by_socket.values()):
            await session.close()

    def _session_for(self, address: Address) -> aiohttp.ClientSession:
        path = address.socket
        if path is None:
            return self._tcp
        if path not in self._by_socket:
            self._by_socket[path] = _session(aiohttp.UnixConnector(path, limit=0))
        return self._by_socket[path]

    @asynccontextmanager
    async def ask(self, lease: ModelLease, path: str, body: bytes) -> AsyncGenerator[EngineAnswer, None]:
        """The engine's answer to ``body``; leaving it before its end closes the connection, which ends the engine's
        work on it. Raises LlmctlError where the engine has ended."""
        address = lease.address
        headers = {"Content-Type": "application/json"}
        headers |= {} if address.token is None else {"Authorization": f"Bearer {address.token}"}
        try:
            response = await self._session_for(address).post(_url(address.url, path), data=body, headers=headers)
        except (aiohttp.ClientError, OSError) as error:
            raise await self._threads.run(lease.failure, error) from error
        try:
            yield EngineAnswer(response.status, response.headers, self._pieces(response, lease))
        finally:
            if not response.content.at_eof():
                response.close()
            response.release()

    async def _pieces(self, response: aiohttp.ClientResponse, lease: ModelLease) -> AsyncIterator[bytes]:
        try:
            while piece := await response.content.readany():
                yield piece
        except (aiohttp.ClientError, OSError) as error:
            raise await self._threads.run(lease.failure, error) from error

    @asynccontextmanager
    async def hand_over(self, handover: Handover, path: str, body: bytes) -> AsyncGenerator[EngineAnswer, None]:
        """The answer of a server of the user's. Raises LlmctlError."""
        status, headers, body_pieces = await self._threads.run(handover.open, path, body)
        loop, queue, is_gone = asyncio.get_running_loop(), asyncio.Queue[Piece](), threading.Event()

        def put(piece: Piece) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, piece)

        reading = asyncio.ensure_future(self._threads.run(_read, body_pieces, put, is_gone.is_set))
        try:
            yield EngineAnswer(status, headers, _taken(queue))
        finally:
            is_gone.set()
            reading.cancel()


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None),  # a long prompt on a slow machine takes its time
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
    )


def _read(pieces: Iterator[bytes], put: Callable[[Piece], None], is_gone: Callable[[], bool]) -> None:
    """In a thread."""
    try:
        for piece in pieces:
            if is_gone():
                break
            put(piece)
        put(None)
    except Exception as error:  # noqa: BLE001  # raised again by who waits for the pieces
        put(error)
    finally:
        if (close := getattr(pieces, "close", None)) is not None:
            close()


async def _taken(queue: asyncio.Queue[Piece]) -> AsyncIterator[bytes]:
    while (piece := await queue.get()) is not None:
        if isinstance(piece, Exception):
            raise piece
        yield piece


def _url(base: str, path: str) -> str:
    """``path`` at the engine whose address is ``base``: what doesn't begin with /v1 lies beside it."""
    return base + path.removeprefix(ROOT) if path.startswith(f"{ROOT}/") else base.removesuffix(ROOT) + path


async def refused(answer: EngineAnswer) -> Exception:
    """Why an engine gives no answer, from its error in OpenAI's shape."""
    page = bytearray()
    async for piece in answer.pieces:
        page += piece[: PAGE_LIMIT_BYTES - len(page)]
    try:
        said = json.loads(page)["error"]
        code, message, param = str(said["code"]), str(said["message"]), said.get("param")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        code, message, param = "engine", f"the engine answered {answer.status}", None
    if code == "context_length_exceeded":
        return ContextError(message)
    if code == "decoding":
        return DecodingError(message)
    again = answer.headers.get("Retry-After", "")
    return ProblemError(Problem(answer.status, code, message, param, float(again) if again.isdecimal() else None))
