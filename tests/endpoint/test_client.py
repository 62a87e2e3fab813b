"""The client against real sockets and real TLS on loopback: what it sends, what it understands, when it tries again."""

from __future__ import annotations

import json
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme

from llmctl.endpoint import client
from llmctl.endpoint.client import TRIES, chat, request_body
from llmctl.endpoint.health import health
from llmctl.endpoint.secrets import address_of
from llmctl.endpoint.timing import ChatTiming
from llmctl.errors import (
    CertificateError,
    ConfigError,
    NetworkError,
    PolicyError,
)
from llmctl.types.endpoint import Address, Endpoint, Trust
from llmctl.types.request import Message, Request, Sampling
from tests.fakes.chat_server import (
    ChatServer,
    Reply,
    drop,
    silence,
    status,
)
from tests.fakes.listening import BODY, HELLO, KEY, failure, listen


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client would have slept between tries."""
    slept: list[float] = []
    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=slept.append, monotonic=time.monotonic))
    return slept


# What is sent


def test_request_body() -> None:
    sampling = Sampling(
        max_tokens=5, temperature=0.0, seed=0, extra={"temperature": 0.7, "top_p": 0.8, "stream": False}
    )
    body = request_body(
        Address("http://x/v1", "m"),
        Request((Message.of("system", "Be brief."), Message.of("user", "Hé")), sampling=sampling),
    )
    assert json.loads(body) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hé"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
        "temperature": 0.0,
        "seed": 0,
        "top_p": 0.8,
    }


def test_what_was_not_asked_for_is_not_sent() -> None:
    body = request_body(Address("http://x/v1", "m"), Request.of("Hi"))
    assert set(json.loads(body)) == {"model", "messages", "stream", "stream_options"}


def test_sent_as_made() -> None:
    with ChatServer(HELLO) as server:
        body = request_body(server.address(), Request.of("Grüße\n\x00 😀", Sampling(max_tokens=3)))
        listen(server.address(token=KEY), body)
        listen(server.address(), body)
    with_key, without = server.requests
    assert with_key.body == without.body == body
    assert (with_key.method, with_key.path) == ("POST", "/v1/chat/completions")
    assert with_key.headers["content-type"] == "application/json"
    assert with_key.headers["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in without.headers


def test_netrc_is_not_read(home: Path) -> None:
    (home / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    with ChatServer(HELLO) as server:
        listen(server.address())
    assert "authorization" not in server.requests[0].headers


# When it tries again


@pytest.mark.parametrize(
    "first", [*map(status, (408, 409, 425, 429, 500)), status(502, b"<html>"), status(503, {"error": "Loading model"})]
)
def test_tried_again_until_it_works(first: Reply, waits: list[float]) -> None:
    with ChatServer(first, first, HELLO) as server:
        assert listen(server.address(token=KEY)).text == "Hello"
    assert [(one.body, one.headers["authorization"]) for one in server.requests] == [(BODY, f"Bearer {KEY}")] * 3
    assert waits == [0.5, 1.0]


@pytest.mark.parametrize(
    ("reply", "says", "hint"),
    [
        (status(500, {"error": "CUDA error"}), "answered 500: CUDA error", "try again later"),
        (status(429, Retry_After="7"), "answered 429", "try again in 7.0 s"),
    ],
)
def test_gives_up_in_the_end(reply: Reply, says: str, hint: str | None, waits: list[float]) -> None:
    with ChatServer(reply) as server:
        error = failure(server, NetworkError)
    assert server.host in error.message
    assert says in error.message
    assert hint is None or error.hint == hint
    assert len(server.requests) == TRIES
    assert len(waits) == TRIES - 1


@pytest.mark.parametrize(
    ("retry_after", "wait_s"),
    [
        ("3", 3.0),
        ("20", 20.0),
        ("0", 0.5),
        ("soon", 0.5),
        ("-1", 0.5),
    ],
)
def test_retry_after(retry_after: str, wait_s: float, waits: list[float]) -> None:
    with ChatServer(status(429, Retry_After=retry_after), HELLO) as server:
        listen(server.address())
    assert waits == [wait_s]


def test_one_try_is_one_try(waits: list[float]) -> None:
    with ChatServer(status(500)) as server, pytest.raises(NetworkError):
        list(chat(server.address(), BODY, tries=1))
    assert len(server.requests) == 1
    assert waits == []


def test_a_refused_connection_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is started while the client waits for the second try."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started: list[ChatServer] = []

    def start(_: float) -> None:
        started.append(ChatServer(HELLO, port=port).__enter__())

    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=start, monotonic=time.monotonic))
    try:
        assert listen(Address(f"http://127.0.0.1:{port}/v1", "m")).text == "Hello"
    finally:
        for server in started:
            server.__exit__(None, None, None)
    assert [len(server.requests) for server in started] == [1]


def test_nobody_there(waits: list[float]) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound but not listening: refuses
        port = bound.getsockname()[1]
        with pytest.raises(NetworkError, match=rf"127\.0\.0\.1:{port} can't be reached \(Connection refused\)"):
            listen(Address(f"http://127.0.0.1:{port}/v1", "m"))
    assert len(waits) == TRIES - 1


@pytest.mark.parametrize(
    ("reply", "says"), [(silence, "did not answer in time"), (drop, "broke the connection")], ids=["silent", "gone"]
)
def test_a_server_that_took_the_prompt_is_not_given_it_twice(reply: Reply, says: str, waits: list[float]) -> None:
    with ChatServer(reply) as server:
        error = failure(server, NetworkError)
    assert says in error.message
    assert len(server.requests) == 1
    assert waits == []


@pytest.mark.parametrize(("retry_after", "hint"), [("21", "in 21 s"), ("7200", "in 2.0 h"), ("9" * 19, "later")])
def test_who_asks_for_more_time_than_a_person_has_is_not_waited_for(
    retry_after: str, hint: str, waits: list[float]
) -> None:
    with ChatServer(status(429, Retry_After=retry_after)) as server:
        error = failure(server, NetworkError, ChatTiming())
    assert error.hint == f"try again {hint}"
    assert len(server.requests) == 1
    assert waits == []


def test_all_waits_together_have_a_limit(waits: list[float]) -> None:
    with ChatServer(status(429, Retry_After="12")) as server:
        failure(server, NetworkError, ChatTiming())
    assert waits == [12.0]
    assert len(server.requests) == 2


# Certificates


@dataclass(frozen=True)
class Authority:
    ca_file: str
    context: ssl.SSLContext


def authority(folder: Path, *names: str) -> Authority:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names).configure_cert(context)
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    return Authority(str(folder / "ca.pem"), context)


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("trusted"), "127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def misnamed(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("misnamed"), "llm.example.internal")


def test_a_ca_of_ones_own(trusted: Authority) -> None:
    with ChatServer(HELLO, tls=trusted.context) as server:
        assert server.url.startswith("https:")
        assert listen(server.address(token=KEY, ca_file=trusted.ca_file)).text == "Hello"
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_ca_from_the_environment(variable: str, trusted: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, trusted.ca_file)
    with ChatServer(HELLO, tls=trusted.context) as server:
        assert listen(server.address()).text == "Hello"


def test_the_endpoints_own_ca_wins(trusted: Authority, misnamed: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", misnamed.ca_file)
    with ChatServer(HELLO, tls=trusted.context) as server:
        assert listen(server.address(ca_file=trusted.ca_file)).text == "Hello"


def refused_certificate(server: ChatServer, waits: list[float], ca_file: str | None) -> None:
    error = failure(server, CertificateError, ca_file=ca_file)
    assert f"the certificate of {server.host} could not be verified" in error.message
    assert "--ca-file" in str(error.hint)
    assert server.requests == []
    assert server.connections == 1
    assert waits == []


def test_an_unknown_ca(trusted: Authority, waits: list[float]) -> None:
    with ChatServer(HELLO, tls=trusted.context) as server:
        refused_certificate(server, waits, None)


def test_another_ca(trusted: Authority, misnamed: Authority, waits: list[float]) -> None:
    with ChatServer(HELLO, tls=trusted.context) as server:
        refused_certificate(server, waits, misnamed.ca_file)


def test_the_wrong_name(misnamed: Authority, waits: list[float]) -> None:
    with ChatServer(HELLO, tls=misnamed.context) as server:
        refused_certificate(server, waits, misnamed.ca_file)


@pytest.mark.parametrize("content", [None, "this is no certificate\n"])
def test_a_ca_file_that_cannot_be_used(content: str | None, tmp_path: Path, trusted: Authority) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    with ChatServer(HELLO, tls=trusted.context) as server:
        failure(server, ConfigError if content is None else CertificateError, ca_file=str(ca_file))
    assert server.requests == []


# Proxies


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_loopback_never_goes_through_a_proxy(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ChatServer(HELLO) as proxy, ChatServer(HELLO) as server:
        monkeypatch.setenv(variable, f"http://{proxy.host}")
        listen(server.address())
        listen(Address(f"http://localhost:{server.port}/v1", "m"))
    assert proxy.connections == 0
    assert len(server.requests) == 2


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_plain_http_does_not_go_through_a_proxy(variable: str, monkeypatch: pytest.MonkeyPatch, afar: None) -> None:
    office = Endpoint("office", "http://llm.example.internal", "m", plain_http=True)
    with ChatServer(HELLO) as proxy:
        monkeypatch.setenv(variable, f"http://me:hunter2@{proxy.host}")
        with pytest.raises(PolicyError, match=f"would go through the proxy {proxy.host}") as caught:
            address_of(office)
        assert health(office).wrong == caught.value.message
    assert (caught.value.hint or "").startswith("export NO_PROXY=llm.example.internal ")
    assert "hunter2" not in caught.value.message
    assert proxy.connections == 0


@pytest.mark.parametrize("exception", ["llm.example.internal", ".internal", "example.com,.example.internal"])
def test_no_proxy(exception: str, monkeypatch: pytest.MonkeyPatch, afar: None) -> None:
    with ChatServer(HELLO) as proxy, ChatServer(HELLO) as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}")
        monkeypatch.setenv("NO_PROXY", exception)
        url = f"http://llm.example.internal:{server.port}/v1"
        listen(address_of(Endpoint("office", url, "m", plain_http=True)))
    assert proxy.connections == 0
    assert len(server.requests) == 1


def test_a_proxy_sees_neither_prompt_nor_key_of_https(
    monkeypatch: pytest.MonkeyPatch, afar: None, trusted: Authority
) -> None:
    with ChatServer(status(502)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")
        with pytest.raises(NetworkError, match="the proxy could not be used"):
            listen(Address("https://llm.example.internal/v1", "m", KEY, Trust(trusted.ca_file)))
    assert {(one.method, one.path, one.body) for one in proxy.requests} == {
        ("CONNECT", "llm.example.internal:443", b"")
    }
    assert all("authorization" not in one.headers for one in proxy.requests)
