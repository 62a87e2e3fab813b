"""Whether a server answers: asked of real ones on loopback, without a prompt."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from llmctl import net
from llmctl.endpoint.health import health
from llmctl.types.endpoint import Endpoint, KeyVariable
from tests.fakes.chat_server import ChatServer, Handler, Reply

KEY = "sk-of-the-office"


def models(*names: str) -> Reply:
    return body(json.dumps({"object": "list", "data": [{"id": name} for name in names]}).encode())


def body(data: bytes, status: int = 200, **headers: str) -> Reply:
    def reply(handler: Handler) -> None:
        handler.head(status, Content_Length=str(len(data)), **headers)
        handler.wfile.write(data)

    return reply


def endpoint(server: ChatServer, **more: Any) -> Endpoint:
    return Endpoint("office", server.address().url, "qwen3-32b", **more)


def test_a_server_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFICE_KEY", KEY)
    with ChatServer(models("qwen3-32b", "other")) as server:
        found = health(endpoint(server, key=KeyVariable("OFFICE_KEY")))
    assert (found.wrong, found.offers) == (None, ("qwen3-32b", "other"))
    assert 0 < found.took_s < 3
    (asked,) = server.requests
    assert (asked.method, asked.path, asked.body) == ("GET", "/v1/models", b"")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(found)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"data": 1}', b'{"data": [1]}', b"[" * 100_000, b"\xff"])
def test_models_that_cannot_be_read_are_not_known(data: bytes) -> None:
    with ChatServer(body(data)) as server:
        found = health(endpoint(server))
    assert (found.wrong, found.offers) == (None, None)


def by_path(**replies: Reply) -> Reply:
    """The reply for the last word of the path, else 404."""

    def reply(handler: Handler) -> None:
        replies.get(handler.path.rsplit("/", 1)[-1], body(b"no", 404))(handler)

    return reply


@pytest.mark.parametrize("code", [400, 401, 405])
def test_a_server_without_a_list_answers(code: int) -> None:
    with ChatServer(by_path(completions=body(b"no", code))) as server:
        assert health(endpoint(server)).wrong is None


def test_a_server_that_is_no_such_server_does_not() -> None:
    with ChatServer(body(b"no", 404)) as server:
        found = health(endpoint(server))
    assert found.wrong == f"{server.host} has neither models nor a chat at this address (404)"
    assert "/chat/completions" in (found.hint or "")


def test_a_root_without_a_version() -> None:
    def reply(handler: Handler) -> None:
        (models("m") if handler.path == "/models" else body(b"no", 404))(handler)

    with ChatServer(reply) as server:
        assert health(endpoint(server)).offers == ("m",)


@pytest.mark.parametrize(
    ("path", "asked"), [("/api/paas/v4", "/api/paas/v4/models"), ("/x/chat/completions", "/x/models")]
)
def test_the_list_is_beside_the_chat(path: str, asked: str) -> None:
    with ChatServer(models("m")) as server:
        health(Endpoint("office", f"http://{server.host}{path}", "m"))
    assert [one.path for one in server.requests] == [asked]


def test_names_of_models_are_made_printable() -> None:
    with ChatServer(models("\x1b[2Jevil\u202egnp", "x" * 300_000)) as server:
        found = health(endpoint(server))
    assert found.offers == ("evil gnp", "x" * 199 + "…")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (body(b'{"error": {"message": "bad key sk-of-the-office"}}', 401), "refused the key (401): bad key …"),
        (body(b"", 503), "answered 503"),
        (body(b"", 302, Location="http://127.0.0.1:1/"), "redirects (302)"),
    ],
)
def test_refusals_in_the_clients_words(reply: Reply, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFICE_KEY", KEY)
    with ChatServer(reply) as server:
        found = health(endpoint(server, key=KeyVariable("OFFICE_KEY")))
    assert said in (found.wrong or "")
    assert len(server.requests) == 1


def test_nobody_is_there() -> None:
    with ChatServer(models()) as server:
        gone = endpoint(server)
    assert "can't be reached" in (health(gone).wrong or "")


def test_a_server_that_says_nothing() -> None:
    begun = time.monotonic()
    with ChatServer(lambda handler: time.sleep(1.0)) as server:
        found = health(endpoint(server), net.Timing(answer_s=0.3))
        took_s = time.monotonic() - begun
    assert "did not answer in time" in (found.wrong or "")
    assert took_s < 0.9


def test_a_key_that_is_missing_is_told_and_nothing_is_sent() -> None:
    with ChatServer(models()) as server:
        found = health(endpoint(server, key=KeyVariable("NOT_SET_ANYWHERE")))
    assert "NOT_SET_ANYWHERE" in (found.wrong or "")
    assert server.requests == []
