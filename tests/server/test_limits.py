"""Clients that are slow, or large, on purpose: real sockets against the gateway's protocol, with short times."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from starlette.types import Receive, Scope, Send

from llmctl.server.limits import OPEN_FILES, LimitedProtocol, RequestLimits, allow_open_files
from tests.fakes import guarded

SMALL = RequestLimits(
    head_bytes=4096,
    head_s=0.4,
    body_bytes=1 << 20,
    body_s=0.4,
    body_bytes_per_s=20_000,
    unread_s=0.5,
    connections=12,
    look_s=0.05,
)
SOON_S = 10.0  # on a busy machine; what is waited for takes less than a second
STEP_S = 0.05
PIECE = b"x" * 65_536
LARGE_BYTES = 8 << 20


class Protocol(LimitedProtocol):
    """``lost`` counts the connections that have ended."""

    limits = SMALL
    lost = 0

    def connection_lost(self, exc: Exception | None) -> None:
        Protocol.lost += 1
        super().connection_lost(exc)


class Application:
    """``/read`` reads the body, ``/refuse`` doesn't; ``/endless`` sends without end, ``/large`` much at once, ``/late``
    after a while. ``ended`` counts the requests that have."""

    def __init__(self) -> None:
        self.ended = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            await self._answer(scope["path"], receive, send)
        finally:
            self.ended += 1

    async def _answer(self, path: str, receive: Receive, send: Send) -> None:
        size = 0
        if path == "/read":
            while (message := await receive())["type"] == "http.request":
                size += len(message["body"])
                if not message["more_body"]:
                    break
        if path == "/late":
            await asyncio.sleep(3 * SMALL.head_s)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while path == "/endless" and not await gone(receive):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        body = b"x" * LARGE_BYTES if path == "/large" else str(size).encode()
        await send({"type": "http.response.body", "body": body})


async def gone(receive: Receive) -> bool:
    """Whether the client has gone, as far as is known now."""
    try:
        async with asyncio.timeout(0.001):
            return bool((await receive())["type"] == "http.disconnect")
    except TimeoutError:
        return False


@pytest.fixture(scope="module")
def application() -> Application:
    return Application()


@pytest.fixture(scope="module")
def port(application: Application) -> Iterator[int]:
    with guarded.listening(
        application,
        protocol=Protocol,
    ) as port:
        yield port


@pytest.fixture
def client(port: int) -> Iterator[socket.socket]:
    with connected(port) as made:
        yield made


def connected(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port))
    made.settimeout(SOON_S)
    return made


def head(path: str = "/read", **headers: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        *(f"{name.replace('_', '-')}: {text}" for name, text in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def rest(client: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    received = bytearray()
    try:
        while data := client.recv(1 << 16):
            received += data
    except ConnectionResetError:
        pass
    return bytes(received)


def drip(client: socket.socket, data: bytes) -> bytes:
    """Sends a byte every STEP_S until the other side closes, and returns what that has sent."""
    client.settimeout(STEP_S)
    deadline = time.monotonic() + SOON_S
    for byte in data:
        assert time.monotonic() < deadline
        try:
            client.sendall(bytes([byte]))
            return client.recv(4096)
        except TimeoutError:
            continue
        except OSError:
            return b""
    raise AssertionError("all of it was taken")


def works(port: int) -> bool:
    with connected(port) as other:
        other.sendall(head(Content_Length="2", Connection="close") + b"ab")
        return rest(other).endswith(b"\r\n2\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "data",
    [head(Content_Length="2"), b"\r\n" * 500, b"POST /" + b"a" * 500, head() + b" "],
    ids=["a head", "empty lines", "a path", "beyond a head"],
)
def test_a_head_byte_by_byte(port: int, client: socket.socket, data: bytes) -> None:
    if data.endswith(b" "):
        client.sendall(head(Content_Length="0"))
        client.recv(4096)
        data = head("/" + "a" * 500)
    assert drip(client, data).startswith((b"HTTP/1.1 408 ", b""))
    assert works(port)


def test_a_connection_on_which_nothing_comes(client: socket.socket) -> None:
    assert rest(client).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "data",
    [
        head(A="a" * 4096),
        head(**{f"A{number}": "a" * 40 for number in range(100)}),
        head("/" + "a" * 5000),
        b"POST / HTTP/1.1\r\nA: " + b"a" * 5000,
        b"POST /" + b"a" * 5000,
        b"\r\n" * 5000,
    ],
    ids=["a large field", "many fields", "a large path", "a field without end", "a path without end", "empty lines"],
)
def test_a_large_head(client: socket.socket, data: bytes) -> None:
    client.sendall(data)
    assert rest(client).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("data", [b"\x00\r\n\r\n", b"POST\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"])
def test_what_is_no_request(client: socket.socket, data: bytes) -> None:
    client.sendall(data)
    assert rest(client).startswith(b"HTTP/1.1 400 ")


def test_a_head_that_is_large_enough(port: int) -> None:
    with connected(port) as client:
        client.sendall(head(A="a" * 3900, Content_Length="0", Connection="close"))
        assert rest(client).startswith(b"HTTP/1.1 200 ")


def test_a_body_byte_by_byte(port: int, client: socket.socket) -> None:
    client.sendall(head(Content_Length="1000"))
    assert drip(client, b"b" * 1000).startswith(b"HTTP/1.1 408 ")
    assert works(port)


def test_a_slow_body_that_goes_on(client: socket.socket) -> None:
    pieces = 20
    client.sendall(head(Content_Length=str(pieces * 2000), Connection="close"))
    for _ in range(pieces):
        client.sendall(b"b" * 2000)
        time.sleep(STEP_S)
    assert str(pieces * 2000).encode() in rest(client)


def test_a_body_that_was_refused_and_goes_on(client: socket.socket) -> None:
    client.sendall(head("/refuse", Content_Length=str(64 << 20)))
    with pytest.raises(OSError):
        for _ in range(64 << 20 >> 16):
            client.sendall(PIECE)


@pytest.mark.parametrize("path", ["/endless", "/large"])
def test_an_answer_that_nobody_reads(port: int, application: Application, path: str) -> None:
    """In the middle of an answer, and when all of it was written: the connection goes, and what writes to it."""
    ended, lost = application.ended, Protocol.lost
    with connected(port) as client:
        client.sendall(head(path, Content_Length="0"))
        wait_until(lambda: application.ended > ended and Protocol.lost > lost)
    assert works(port)


def test_a_slow_reader_gets_all(port: int) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # else the system takes megabytes at once
        client.connect(("127.0.0.1", port))
        client.sendall(head("/large", Content_Length="0", Connection="close"))
        received, until = 0, time.monotonic() + 3 * SMALL.unread_s
        while data := client.recv(1 << 15):
            received += len(data)
            if time.monotonic() < until:
                time.sleep(STEP_S / 4)
        assert received > LARGE_BYTES


def test_an_answer_may_take_its_time(client: socket.socket) -> None:
    client.sendall(head("/late", Content_Length="0", Connection="close") + b"\r\n")
    assert rest(client).startswith(b"HTTP/1.1 200 ")


def test_a_connection_between_requests_is_kept(client: socket.socket) -> None:
    for _ in range(2):
        client.sendall(head(Content_Length="1") + b"a")
        answer = b""
        while not answer.endswith(b"\r\n0\r\n\r\n"):
            piece = client.recv(4096)
            assert piece
            answer += piece
        assert answer.startswith(b"HTTP/1.1 200 ")
        time.sleep(1.5 * SMALL.head_s)


def test_the_number_of_connections(port: int) -> None:
    with ExitStack() as held:
        clients = [held.enter_context(closing(connected(port))) for _ in range(SMALL.connections)]
        for client in clients:
            client.sendall(b"POST")
        with connected(port) as one_more:
            assert rest(one_more) == b""
    wait_until(lambda: works(port))


def test_as_many_files_as_may_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[1]), before[1]))
        allow_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(OPEN_FILES, before[1]), before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(STEP_S)
