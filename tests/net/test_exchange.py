"""What leaves is counted, sending lasts as long as it makes progress, and whatever waits has an end."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from llmctl import net
from llmctl.errors import LlmctlError, NetworkError, UnreachableError
from llmctl.net.exchange import Deadline
from llmctl.types.endpoint import Trust
from tests.fakes.chat_server import ChatServer, drop, silence, status

BODY = bytes(range(256)) * 4096 * 8  # 8 MiB
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Receiver:
    """Takes requests slowly and answers 200 when ``most_bytes`` of a body have come; after that it takes no more."""

    def __init__(self, most_bytes: int, *, bytes_per_s: float = 1e9, tls: ssl.SSLContext | None = None) -> None:
        self.received_bytes = 0
        self._most_bytes, self._bytes_per_s = most_bytes, bytes_per_s
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._listening.getsockname()[1]}/"
        self._tls = tls
        self.done = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with self._listening:
            connection, _ = self._listening.accept()
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True)
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096)
            self.received_bytes = len(head.partition(b"\r\n\r\n")[2])
            while self.received_bytes < self._most_bytes:
                received = len(connection.recv(16 << 10))
                self.received_bytes += received
                time.sleep(received / self._bytes_per_s)
            if self._most_bytes == len(BODY):
                connection.sendall(OK)
            self.done.wait(10)

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()


def post(url: str, timing: net.Timing, body: bytes = BODY, ca_file: str | None = None) -> list[int]:
    """The shares that were sent. Raises what posting raises."""
    sent: list[int] = []
    with net.session(url, timing=timing, on_sent=sent.append, trust=Trust(ca_file)) as session:
        try:
            with net.translated(url, "posting"), session.ask("POST", url, data=body):
                pass
        except LlmctlError as error:
            error.sent = sum(sent)  # type: ignore[attr-defined]
            raise
        assert session.exchange.sent_bytes == sum(sent)
    return sent


def test_an_upload_may_take_longer_than_any_time_out() -> None:
    timing = net.Timing(connect_s=0.3, idle_s=0.3)
    begun_s = time.monotonic()
    with Receiver(len(BODY), bytes_per_s=8e6) as server:
        sent = post(server.url, timing)
    assert time.monotonic() - begun_s > 2 * timing.idle_s
    assert sum(sent) == len(BODY) == server.received_bytes


def test_an_upload_through_tls_is_counted_without_what_tls_adds(tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with Receiver(len(BODY), tls=context) as server:
        assert sum(post(server.url, net.Timing(), ca_file=str(tmp_path / "ca.pem"))) == len(BODY)


def test_an_upload_that_stands_still_ends_and_tells_how_far_it_came() -> None:
    with Receiver(1 << 20) as server, pytest.raises(NetworkError, match="did not answer in time") as caught:
        post(server.url, net.Timing(idle_s=0.5))
    assert server.received_bytes <= caught.value.sent < len(BODY)  # type: ignore[attr-defined]


@pytest.mark.parametrize("reply", [drop, silence, status(500)])
def test_a_body_that_was_taken_counts_whatever_comes_of_it(reply: object) -> None:
    sent: list[int] = []
    with (
        ChatServer(reply) as server,  # type: ignore[arg-type]
        net.session(server.url, timing=net.Timing(answer_s=0.2), on_sent=sent.append) as session,
    ):
        for _ in range(2):
            try:
                with net.translated(server.url, "posting"):
                    session.ask("POST", server.url, data=b"x" * 1000).close()
            except NetworkError:
                pass
    assert sum(sent) == 2000


def test_nothing_has_left_where_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(UnreachableError) as caught:
            post(f"http://127.0.0.1:{bound.getsockname()[1]}/", net.Timing())
    assert caught.value.sent == 0  # type: ignore[attr-defined]


@contextmanager
def slow_names(seconds: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = socket.getaddrinfo

    def getaddrinfo(host: object, *rest: object, **more: object) -> object:
        if host == "slow.example":
            time.sleep(seconds)
            host = "127.0.0.1"
        return real(host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield


def test_the_look_up_of_a_name_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    begun_s = time.monotonic()
    with slow_names(1.0, monkeypatch), pytest.raises(UnreachableError, match=r"slow\.example:9 did not answer in time"):
        post("http://slow.example:9/", net.Timing(connect_s=0.1))
    assert time.monotonic() - begun_s < 0.9


SLOW_NAME = """
import socket, time
socket.getaddrinfo = lambda *_, **more: time.sleep(30)
from llmctl import net
print("begun", flush=True)
with net.session("http://slow.example") as session:
    session.ask("GET", "http://slow.example")
"""


def test_ctrl_c_ends_the_look_up_of_a_name() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_NAME], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == b"begun\n"
        time.sleep(0.5)
        begun_s = time.monotonic()
        os.kill(child.pid, signal.SIGINT)
        assert child.wait(10) != 0
        assert time.monotonic() - begun_s < 5


# The deadline


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_a_deadline_ends_a_read(pair: tuple[socket.socket, socket.socket]) -> None:
    deadline = Deadline()
    deadline.watch(pair[0])
    deadline.set(0.1)
    assert pair[0].recv(1) == b""
    assert deadline.passed
    deadline.close()


def test_a_deadline_can_be_moved_and_cleared(pair: tuple[socket.socket, socket.socket]) -> None:
    deadline = Deadline()
    deadline.watch(pair[0])
    deadline.set(60)
    deadline.set(0.2)
    time.sleep(0.05)
    deadline.set(60)
    time.sleep(0.3)
    assert not deadline.passed
    deadline.set(0.05)
    deadline.clear()
    time.sleep(0.2)
    assert not deadline.passed
    pair[1].send(b"x")
    assert pair[0].recv(1) == b"x"
    deadline.set(0.05)
    assert pair[0].recv(1) == b""
    deadline.close()


def test_a_socket_that_opens_after_the_deadline_is_shut(pair: tuple[socket.socket, socket.socket]) -> None:
    deadline = Deadline()
    deadline.set(0.01)
    time.sleep(0.2)
    deadline.watch(pair[0])
    assert pair[0].recv(1) == b""
    deadline.close()


def test_its_thread_ends_with_it(pair: tuple[socket.socket, socket.socket]) -> None:
    before = threading.active_count()
    deadline = Deadline()
    deadline.set(60)
    deadline.close()
    for _ in range(100):
        if threading.active_count() == before:
            return
        time.sleep(0.01)
    raise AssertionError("the thread goes on")


def test_another_thread_ends_what_waits_for_headers() -> None:
    with ChatServer(silence) as server, net.Sessions() as kept:
        threading.Timer(0.3, kept.shut).start()
        begun_s = time.monotonic()
        with pytest.raises(NetworkError):
            list(net.hops("GET", server.url, doing="asking", headers={}, secret={}, sessions=kept))
        assert 0.2 < time.monotonic() - begun_s < 5
