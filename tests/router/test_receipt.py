"""What a receipt says has left this machine: the bytes really sent, of every try, and nothing where none was."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trustme
from msgspec.structs import replace

from llmctl.endpoint.client import request_body
from llmctl.endpoint.timing import ChatTiming, timing_of
from llmctl.engine.pool import Pool
from llmctl.errors import LlmctlError
from llmctl.router import servers
from llmctl.router.answer import answer
from llmctl.router.partial_answer import PartialAnswer
from llmctl.types.answer import LeftMachine
from llmctl.types.endpoint import Address, Endpoint, LeaveReason, Limits, Remote, Trust
from llmctl.types.listener import SilentListener
from llmctl.types.request import Request
from tests.fakes.chat_server import DONE, ChatServer, Reply, drop, event, status, stream

REQUEST = Request.of("hi " * 1000)
BODY_BYTES = len(request_body(Address("http://x/v1", "m"), REQUEST))
HELLO = stream(event("Hello", finish="stop"), DONE)


@pytest.fixture(autouse=True)
def tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    def soon(limits: Limits) -> ChatTiming:
        return replace(timing_of(limits), back_off_s=0.01)

    monkeypatch.setattr(servers, "timing_of", soon)


def left(endpoint: Endpoint) -> LeftMachine | None:
    """What the receipt says after asking, whatever comes of it."""
    so_far = PartialAnswer()
    route = Remote(endpoint, LeaveReason.PINNED, "you asked for it")
    try:
        made = answer(route, REQUEST, listener=SilentListener(), lease=Pool().lease, so_far=so_far)
    except LlmctlError:
        return so_far.left
    assert made.left_machine == so_far.left
    return so_far.left


@pytest.mark.parametrize(
    ("script", "times"),
    [
        ([HELLO], 1),
        ([status(500), HELLO], 2),
        ([status(503), status(429), HELLO], 3),
        ([status(500)], 3),
        ([status(401)], 1),
        ([drop], 1),
    ],
)
def test_every_try_counts(script: list[Reply], times: int) -> None:
    with ChatServer(*script) as server:
        receipt = left(Endpoint("office", server.url, "m"))
    assert receipt == LeftMachine(server.host, times * BODY_BYTES, tls=False)
    assert sum(len(request.body) for request in server.requests) == times * BODY_BYTES


def test_nothing_left_where_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert left(Endpoint("office", f"http://127.0.0.1:{bound.getsockname()[1]}", "m")) is None


def test_nothing_left_where_the_name_is_unknown() -> None:
    assert left(Endpoint("office", "https://nonesuch.invalid", "m")) is None


def test_nothing_left_where_the_certificate_is_not_trusted(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with ChatServer(HELLO, tls=context) as server:
        assert left(Endpoint("office", server.url, "m", trust=Trust(str(other)))) is None
        assert left(Endpoint("office", server.url, "m", trust=Trust(str(tmp_path / "nonesuch.pem")))) is None
    assert server.requests == []


def test_nothing_left_where_the_proxy_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert left(Endpoint("office", "https://llm.example.internal", "m")) is None


def test_through_tls_the_prompt_counts_not_its_wrapping(tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with ChatServer(HELLO, tls=context) as server:
        receipt = left(Endpoint("office", server.url, "m", trust=Trust(str(tmp_path / "ca.pem"))))
    assert receipt == LeftMachine(server.host, BODY_BYTES, tls=True)
