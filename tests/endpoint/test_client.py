"""The client against real sockets and real TLS on loopback: what it sends, what it understands, when it tries again."""

from __future__ import annotations

import json
import socket
import ssl
import traceback
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.endpoint import client
from llmctl.endpoint.client import TRIES, chat, normal_url, request_body
from llmctl.errors import (
    AccessError,
    CertificateError,
    ConfigError,
    ContextError,
    EngineError,
    LlmctlError,
    NetworkError,
    NotFoundError,
    UsageError,
)
from llmctl.types.answer import Finished, Measured, Message, Piece, PieceKind, Sampling, Usage
from llmctl.types.endpoint import Address
from tests.fakes.chat_server import (
    DONE,
    ChatServer,
    Reply,
    broken_off,
    data,
    drop,
    endless,
    event,
    silence,
    status,
    stream,
    until_closed,
)

KEY = "sk-Secret-of-the-office-0123456789"
BODY = b'{"messages": []}'
HELLO = stream(event("Hello"), event(finish="stop"), DONE)


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client would have slept between tries."""
    slept: list[float] = []
    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=slept.append))
    return slept


@dataclass(frozen=True)
class Heard:
    text: str
    reasoning: str
    finished: Finished


def listen(address: Address, body: bytes = BODY) -> Heard:
    *pieces, finished = list(chat(address, body))
    assert isinstance(finished, Finished)
    assert all(isinstance(piece, Piece) and piece.text for piece in pieces)
    text, reasoning = (
        "".join(piece.text for piece in pieces if isinstance(piece, Piece) and piece.kind is kind)
        for kind in (PieceKind.TEXT, PieceKind.REASONING)
    )
    return Heard(text, reasoning, finished)


def heard(*segments: bytes) -> Heard:
    with ChatServer(stream(*segments)) as server:
        return listen(server.address())


def failure(server: ChatServer, kind: type[LlmctlError], **address: Any) -> LlmctlError:
    """The error of exactly that class that asking ``server`` ends with; the key is nowhere in it."""
    made = server.address(token=KEY, **address)
    with pytest.raises(kind) as caught:
        listen(made)
    assert type(caught.value) is kind
    everything = [*traceback.format_exception(caught.value), repr(caught.value), repr(made), str(caught.value.hint)]
    assert KEY not in "".join(everything)
    assert "\n" not in caught.value.message
    return caught.value


# The address


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://llm.example.internal", "https://llm.example.internal/v1"),
        ("https://llm.example.internal/", "https://llm.example.internal/v1"),
        ("https://llm.example.internal/v1", "https://llm.example.internal/v1"),
        ("https://llm.example.internal/v1/", "https://llm.example.internal/v1"),
        ("https://llm.example.internal:8443/v1/chat/completions", "https://llm.example.internal:8443/v1"),
        ("https://llm.example.internal/team/llama", "https://llm.example.internal/team/llama/v1"),
        ("HTTPS://LLM.example.internal", "https://llm.example.internal/v1"),
        ("http://0.0.0.0:8080", "http://127.0.0.1:8080/v1"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080/v1"),
        ("http://[::]:8080/v1", "http://[::1]:8080/v1"),
        ("http://[::1]:8080", "http://[::1]:8080/v1"),
        ("localhost:11434", "http://localhost:11434/v1"),
        ("localhost", "http://localhost/v1"),
    ],
)
def test_base_address(given: str, expected: str) -> None:
    assert normal_url(given) == expected
    assert normal_url(expected) == expected


@pytest.mark.parametrize(
    "url",
    [
        "", "https://", "ftp://host", "file:///etc/passwd", "unix:///run/x.sock", "https://host:99999", "https://host:0",
        "https://host:port", "https://[::1", "https://ho st", "https://host/\nv1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_said(url: str) -> None:
    with pytest.raises(UsageError, match="address") as caught:
        normal_url(url)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("url", [f"https://me:{KEY}@host", f"ftp://{KEY}@host", f"https://host/v1?key={KEY}"])
def test_secrets_in_an_address_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        normal_url(url)
    assert KEY not in caught.value.message + str(caught.value.hint)


# What is sent


def test_request_body() -> None:
    sampling = Sampling(
        max_tokens=5, temperature=0.0, seed=0, extra={"temperature": 0.7, "top_p": 0.8, "stream": False}
    )
    body = request_body(Address("http://x/v1", "m"), [Message("system", "Be brief."), Message("user", "Hé")], sampling)
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
    body = request_body(Address("http://x/v1", "m"), [Message("user", "Hi")], Sampling())
    assert set(json.loads(body)) == {"model", "messages", "stream", "stream_options"}


def test_sent_as_made() -> None:
    with ChatServer(HELLO) as server:
        body = request_body(server.address(), [Message("user", "Grüße\n\x00 😀")], Sampling(max_tokens=3))
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


# What is understood

WHOLE = (
    event(role="assistant")
    + b": a comment that keeps the connection alive\n\n"
    + event("<thi")
    + event("nk>Let me see…</thi")
    + event("nk>\n\nGrüße")
    + event(", 世界 😀")
    + event(finish="stop")
    + data({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}})
    + DONE
)


def test_a_whole_answer() -> None:
    made = heard(WHOLE)
    assert made.text == "Grüße, 世界 😀"
    assert made.reasoning == "Let me see…"
    assert made.finished == Finished("stop", Usage(7, 9))


@given(cuts=st.lists(st.integers(0, len(WHOLE)), max_size=40), newline=st.sampled_from([b"\n", b"\r\n"]))
@settings(max_examples=40, deadline=None)
def test_borders_of_chunks_mean_nothing(cuts: list[int], newline: bytes) -> None:
    whole = WHOLE.replace(b"\n", newline)
    borders = [0, *sorted(cuts), len(whole)]
    segments = [whole[begin:end] for begin, end in pairwise(borders)]
    assert heard(*segments) == heard(WHOLE)


def test_byte_by_byte() -> None:
    assert heard(*(bytes([byte]) for byte in WHOLE)) == heard(WHOLE)


@pytest.mark.parametrize("end", [stream, until_closed, broken_off])
def test_the_connection_may_end_as_it_likes_after_the_end_mark(end: Any) -> None:
    with ChatServer(end(WHOLE)) as server:
        assert listen(server.address()) == heard(WHOLE)


def test_pieces_come_while_the_server_still_speaks() -> None:
    with ChatServer(endless(event("more "))) as server:
        answer = chat(server.address(), BODY)
        assert next(answer) == Piece(PieceKind.TEXT, "more ")
        answer.close()
        assert server.hung_up.wait(5), "who listens no longer must hang up, so that the server stops decoding"


@pytest.mark.parametrize(
    ("segments", "text", "reasoning", "finish"),
    [
        pytest.param([event("Hi", finish="stop")], "Hi", "", "stop", id="no end mark after a finish reason"),
        pytest.param([event("Hi"), DONE], "Hi", "", None, id="end mark without a finish reason"),
        pytest.param([event("Hi", finish="length"), DONE, event("late")], "Hi", "", "length", id="after the end mark"),
        pytest.param([DONE], "", "", None, id="nothing at all"),
        pytest.param([event(reasoning_content="Hm"), event("Hi"), DONE], "Hi", "Hm", None, id="reasoning_content"),
        pytest.param([event(reasoning="Hm"), event("Hi"), DONE], "Hi", "Hm", None, id="reasoning"),
        pytest.param([event(None, content=None, reasoning_content="Hm"), DONE], "", "Hm", None, id="content null"),
        pytest.param([event("<think>Hm"), event(finish="length"), DONE], "", "Hm", "length", id="cut off thinking"),
        pytest.param([event("<thi", finish="stop")], "<thi", "", "stop", id="held back to the end"),
        pytest.param([b"event: x\nid: 1\nretry: 5\n", event("Hi"), DONE], "Hi", "", None, id="other fields"),
        pytest.param([b'data:{"choices":[{"delta":{"content":"Hi"}}]}\n\n', DONE], "Hi", "", None, id="no blank"),
        pytest.param([data([1]), data(None), data("x"), event("Hi"), DONE], "Hi", "", None, id="no objects"),
        pytest.param([data({"choices": {"0": 1}}), data({"choices": [1]}), DONE], "", "", None, id="odd choices"),
        pytest.param([data({"choices": [{"delta": "Hi"}]}), event("Hi"), DONE], "Hi", "", None, id="odd delta"),
        pytest.param([event(["Hi"]), event(5, reasoning={}), event("Hi"), DONE], "Hi", "", None, id="odd content"),
        pytest.param([event("Hi", finish=7), DONE], "Hi", "", None, id="odd finish reason"),
        pytest.param([data({"error": None, "choices": []}), event("Hi"), DONE], "Hi", "", None, id="error null"),
        pytest.param([event("a\ud83d"), event("\ude00b"), DONE], "a\ufffd\ufffdb", "", None, id="halves of a pair"),
    ],
)
def test_streams(segments: list[bytes], text: str, reasoning: str, finish: str | None) -> None:
    made = heard(*segments)
    assert (made.text, made.reasoning, made.finished.finish_reason) == (text, reasoning, finish)
    made.text.encode()  # can be written


@pytest.mark.parametrize(
    ("usage", "timings", "expected"),
    [
        (None, None, (None, None, None, None)),
        ({"prompt_tokens": 3, "completion_tokens": 0}, None, (3, 0, None, None)),
        (None, {"prompt_ms": 250, "predicted_ms": 1500.5}, (None, None, 0.25, 1.5005)),
        (None, {"prompt_ms": 0, "predicted_ms": 0.0}, (None, None, None, None)),
        ({}, {}, (None, None, None, None)),
        ([3], "fast", (None, None, None, None)),
        ({"prompt_tokens": "3", "completion_tokens": None}, {"prompt_ms": "x"}, (None, None, None, None)),
        ({"prompt_tokens": -3, "completion_tokens": True}, {"prompt_ms": -1}, (None, None, None, None)),
        ({"prompt_tokens": 1.5}, {"prompt_ms": float("nan"), "predicted_ms": float("inf")}, (None,) * 4),
        ({"prompt_tokens": 10**400}, {"prompt_ms": 10**400}, (None,) * 4),
    ],
)
def test_figures(usage: object, timings: object, expected: tuple[float | None, ...]) -> None:
    last = data({"choices": [], "usage": usage, "timings": timings})
    finished = heard(event("Hi", finish="stop"), last, DONE).finished
    figures = (finished.usage.prompt_tokens, finished.usage.completion_tokens, finished.prefill_s, finished.decode_s)
    assert figures == expected


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (None, None),
        ("much", None),
        ({}, Measured(None, None)),
        ({"anonymous_bytes": 5, "device_bytes": 0}, Measured(5, 0)),
        ({"anonymous_bytes": -5, "device_bytes": 1.5}, Measured(None, None)),
        ({"anonymous_bytes": 10**400, "device_bytes": None}, Measured(None, None)),
    ],
)
def test_memory(memory: object, expected: Measured | None) -> None:
    last = data({"choices": [], "memory": memory})
    assert heard(event("Hi", finish="stop"), last, DONE).finished.measured == expected


def test_the_last_usage_counts() -> None:
    running = [data({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": n}}) for n in (1, 2)]
    assert heard(*running, data({"choices": [], "usage": None}), DONE).finished.usage == Usage(3, 2)


# What goes wrong in the middle: told, and never tried again


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        pytest.param(broken_off(event("Hi")), NetworkError, "broke off", id="cut"),
        pytest.param(broken_off(), NetworkError, "broke off", id="cut at once"),
        pytest.param(until_closed(event("Hi")), NetworkError, "broke off", id="closed without an end"),
        pytest.param(stream(event("Hi")), NetworkError, "broke off", id="ended without an end"),
        pytest.param(stream(event("Hi"), b"data: {not json\n\n", DONE), NetworkError, "not JSON", id="no JSON"),
        pytest.param(stream(b'data: "\xff\xfe"\n\n'), NetworkError, "not JSON", id="no UTF-8"),
        pytest.param(stream(b"data: " + b"[" * 100_000 + b"\n\n"), NetworkError, "not JSON", id="deep"),
        pytest.param(endless(b"data: " + b"x" * 60_000), NetworkError, "a line of more than 1,048,576", id="long"),
        pytest.param(stream(data({"error": {"message": "out of memory"}})), EngineError, "out of memory", id="error"),
        pytest.param(stream(event("Hi"), data({"error": f"\x1b[2J{KEY}"})), EngineError, "[2J…", id="error is words"),
        pytest.param(stream(b"<p>Sign in</p>", content_type="text/html"), NetworkError, "OpenAI-compatible", id="page"),
        pytest.param(stream(b"{}", content_type="application/json"), NetworkError, "OpenAI-compatible", id="whole"),
    ],
)  # fmt: skip
def test_failures_after_the_answer_began(reply: Reply, kind: type[LlmctlError], says: str, waits: list[float]) -> None:
    with ChatServer(reply) as server:
        error = failure(server, kind)
    assert error.message.startswith(server.host)
    assert says in error.message
    assert error.message.isprintable()
    assert len(server.requests) == 1
    assert waits == []


def test_what_came_before_the_cut_is_kept() -> None:
    with ChatServer(broken_off(event("Hel"), event("lo"))) as server:
        answer = chat(server.address(), BODY)
        assert [next(answer), next(answer)] == [Piece(PieceKind.TEXT, "Hel"), Piece(PieceKind.TEXT, "lo")]
        with pytest.raises(NetworkError):
            next(answer)


# What a server refuses


def words(message: str, code: object = None, **more: object) -> dict[str, object]:
    return {"error": {"message": message, "code": code, **more}}


LLAMA_SERVER = words(
    "the request exceeds the available context size, try increasing it", 400, type="exceed_context_size_error"
)
VLLM = {
    "object": "error",
    "message": "x",
    "error": words("This model's maximum context length is 4096 tokens.", 400)["error"],
}


@pytest.mark.parametrize(
    ("code", "body", "kind", "says"),
    [
        (400, words("the prompt is 9 tokens, local context is 8", "context_length_exceeded"), ContextError, "9 tokens"),
        (400, LLAMA_SERVER, ContextError, "available context size"),
        (400, VLLM, ContextError, "maximum context length"),
        (413, words("", "context_length_exceeded"), ContextError, "longer than the context"),
        (400, words("unknown field: context_manager"), EngineError, "refused the request (400): unknown field"),
        (400, {"detail": "no"}, EngineError, "(400): no"),
        (400, [1, 2], EngineError, "(400)"),
        (400, b"\xff not json", EngineError, "(400)"),
        (401, words(f"wrong key: {KEY}"), AccessError, "refused the key (401): wrong key: …"),
        (401, {"error": f"wrong key: {KEY}"}, AccessError, "refused the key (401): wrong key: …"),
        (401, words("x" * 180 + KEY), AccessError, "xx…"),
        (403, None, AccessError, "refused the key (403)"),
        (404, words("no such model"), NotFoundError, "(404): no such model"),
        (422, {"detail": [{"loc": ["body"], "msg": "bad"}]}, EngineError, "(422)"),
        (418, words("\x1b[31mteapot\nin\rtwo lines"), EngineError, "teapot in two lines"),
    ],
)
def test_refusals_are_final(code: int, body: object, kind: type[LlmctlError], says: str, waits: list[float]) -> None:
    with ChatServer(status(code, body)) as server:
        error = failure(server, kind)
    assert says in error.message
    assert error.message.isprintable()
    assert len(error.message) < 300
    assert kind is ContextError or error.message.startswith(server.host)
    assert len(server.requests) == 1
    assert waits == []


def test_a_context_error_from_afar_names_the_server(afar: None) -> None:
    with ChatServer(status(400, LLAMA_SERVER)) as server, pytest.raises(ContextError) as caught:
        listen(Address(f"http://llm.example.internal:{server.port}/v1", "m"))
    assert caught.value.message.startswith(f"llm.example.internal:{server.port}: ")


def test_words_of_a_server_are_cut_short() -> None:
    with ChatServer(status(400, words("long " * 100_000))) as server:
        assert len(failure(server, EngineError).message) < 300


@pytest.mark.parametrize("location", ["http://127.0.0.1:{port}/v1/chat/completions", "http://[broken", None])
@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(code: int, location: str | None) -> None:
    with ChatServer(HELLO) as other:
        headers = {} if location is None else {"Location": location.format(port=other.port)}
        with ChatServer(status(code, **headers)) as server:
            error = failure(server, NotFoundError)
    assert error.message.startswith(f"{server.host} redirects ({code})")
    assert len(server.requests) == 1
    assert other.connections == 0


# When it tries again


@pytest.mark.parametrize(
    "first", [status(500), status(502, b"<html>"), status(503, words("Loading model")), status(429), drop]
)
def test_tried_again_until_it_works(first: Reply, waits: list[float]) -> None:
    with ChatServer(first, first, HELLO) as server:
        assert listen(server.address(token=KEY)).text == "Hello"
    assert [(one.body, one.headers["authorization"]) for one in server.requests] == [(BODY, f"Bearer {KEY}")] * 3
    assert waits == [client.BACK_OFF_S, 2 * client.BACK_OFF_S]


@pytest.mark.parametrize(
    ("reply", "says", "hint"),
    [
        (status(500, words("CUDA error")), "answered 500: CUDA error", "try again later"),
        (status(429, Retry_After="7"), "answered 429", "try again in 7 s"),
        (drop, "can't be reached", None),
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
        ("3600", client.LONGEST_WAIT_S),
        ("0", client.BACK_OFF_S),
        ("soon", client.BACK_OFF_S),
        ("-1", client.BACK_OFF_S),
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

    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=start))
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


def test_a_server_that_took_the_prompt_is_not_given_it_twice(
    monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setattr(client, "FIRST_TOKEN_TIMEOUT_S", 0.1)
    with ChatServer(silence) as server:
        error = failure(server, NetworkError)
    assert "did not answer in time" in error.message
    assert len(server.requests) == 1
    assert waits == []


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


@pytest.fixture
def afar(monkeypatch: pytest.MonkeyPatch) -> None:
    """llm.example.internal, a name that is not loopback's, leads to this machine."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host == "llm.example.internal" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_loopback_never_goes_through_a_proxy(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ChatServer(HELLO) as proxy, ChatServer(HELLO) as server:
        monkeypatch.setenv(variable, f"http://{proxy.host}")
        listen(server.address())
        listen(Address(f"http://localhost:{server.port}/v1", "m"))
    assert proxy.connections == 0
    assert len(server.requests) == 2


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_another_machine_is_reached_through_the_proxy(
    variable: str, monkeypatch: pytest.MonkeyPatch, afar: None
) -> None:
    with ChatServer(HELLO) as proxy:
        monkeypatch.setenv(variable, f"http://{proxy.host}")
        assert listen(Address("http://llm.example.internal/v1", "m")).text == "Hello"
    assert [one.path for one in proxy.requests] == ["http://llm.example.internal/v1/chat/completions"]


@pytest.mark.parametrize("exception", ["llm.example.internal", ".internal", "example.com,.example.internal"])
def test_no_proxy(exception: str, monkeypatch: pytest.MonkeyPatch, afar: None) -> None:
    with ChatServer(HELLO) as proxy, ChatServer(HELLO) as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}")
        monkeypatch.setenv("NO_PROXY", exception)
        listen(Address(f"http://llm.example.internal:{server.port}/v1", "m"))
    assert proxy.connections == 0
    assert len(server.requests) == 1


def test_a_proxy_sees_neither_prompt_nor_key_of_https(
    monkeypatch: pytest.MonkeyPatch, afar: None, trusted: Authority
) -> None:
    with ChatServer(status(502)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")
        with pytest.raises(NetworkError, match="the proxy could not be used"):
            listen(Address("https://llm.example.internal/v1", "m", KEY, trusted.ca_file))
    assert {(one.method, one.path, one.body) for one in proxy.requests} == {
        ("CONNECT", "llm.example.internal:443", b"")
    }
    assert all("authorization" not in one.headers for one in proxy.requests)
