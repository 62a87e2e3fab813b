"""Servers that mean no good: every one ends in an error of this program's, soon, and takes little memory."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from msgspec.structs import replace

from llmctl import net
from llmctl.endpoint.health import health
from llmctl.errors import LlmctlError
from llmctl.types.endpoint import Endpoint, KeyVariable
from tests.fakes.chat_server import ChatServer
from tests.fakes.hostile import HOSTILE
from tests.fakes.listening import KEY, SOON, listen

QUICK = net.Timing(connect_s=0.2, idle_s=0.2, answer_s=0.2, small_s=0.2)
HASTY = replace(SOON, first_token_s=0.3, between_s=0.3, transport=QUICK)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_chat_ends_in_an_error_soon(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.endpoint.answer.ANSWER_LIMIT", 50_000)
    with ChatServer(HOSTILE[name]) as server:
        begun_s = time.monotonic()
        with pytest.raises(LlmctlError) as caught:
            listen(server.address(token=KEY), timing=HASTY)
        took_s = time.monotonic() - begun_s
    assert took_s < 5
    assert caught.value.message.isprintable()
    assert KEY not in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("name", HOSTILE)
def test_the_look_whether_it_answers_ends_soon(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFICE_KEY", KEY)
    with ChatServer(HOSTILE[name]) as server:
        begun_s = time.monotonic()
        state = health(Endpoint("office", server.url, "m", KeyVariable("OFFICE_KEY")), QUICK)
        assert time.monotonic() - begun_s < 5
    assert state.wrong is not None
    assert state.wrong.isprintable()
    assert KEY not in state.wrong
    assert len(state.wrong) < 400


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_hub_says_of_a_repository_ends_soon(name: str) -> None:
    with ChatServer(HOSTILE[name]) as server:
        begun_s = time.monotonic()
        with pytest.raises(LlmctlError) as caught:
            read_whole(server.url)
        assert time.monotonic() - begun_s < 5
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


def read_whole(url: str) -> bytes:
    for response in net.hops("GET", url, doing="asking", headers={}, secret={}, timing=QUICK):
        if response.status_code >= 400:
            raise LlmctlError("refused")
        if not response.is_redirect:
            return net.whole(response, "asking", limit_bytes=1 << 20)
    raise AssertionError("hops end with an answer or an error")


@pytest.mark.parametrize(
    "name", ["endless body", "one endless header", "bomb", "redirects to itself", "flood of pings"]
)
def test_memory_stays_small(name: str) -> None:
    with ChatServer(HOSTILE[name]) as server:
        tracemalloc.start()
        try:
            with pytest.raises(LlmctlError):
                listen(server.address(), timing=HASTY)
            with pytest.raises(LlmctlError):
                read_whole(server.url)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak_bytes < 30_000_000
