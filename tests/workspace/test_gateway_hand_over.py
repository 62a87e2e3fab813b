"""What a gateway hands over: to which server, what each was sent, and what the client hears."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl.endpoint.forwarding import CHAT_PATH
from llmctl.errors import ContextError, LlmctlError, NetworkError, PolicyError
from llmctl.router.kept_availability import look, noted
from llmctl.settings import load
from llmctl.types.endpoint import Endpoint, Limits
from llmctl.types.listener import SilentListener
from llmctl.types.policy import Policy
from llmctl.types.receipt import Outcome
from llmctl.workspace import receipts
from llmctl.workspace.gateway_hand_over import GatewayHandOver
from tests.fakes.chat_server import DONE, ChatServer, Reply, broken_off, data, drop, event, status, stream

HELLO = stream(event("Hello"), event(finish="stop"), DONE)
WHOLE = status(200, {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]})
BODY = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "two words"}]}).encode()
LONG = ContextError("the prompt is 9,000 tokens")


class Hearing(SilentListener):
    def __init__(self) -> None:
        self.said: list[str] = []

    def leaving(self, endpoint: Endpoint, host: str, reason: str) -> None:
        self.said.append(f"{endpoint.name}: {reason}")


def at(name: str, server: ChatServer, **more: Any) -> Endpoint:
    return Endpoint(name, server.url, f"model-of-{name}", **more)


def hand_over(*endpoints: Endpoint, listener: SilentListener | None = None) -> GatewayHandOver:
    settings = replace(load(), policy=Policy.PREFER_LOCAL, endpoints=endpoints)
    return GatewayHandOver(settings, listener or SilentListener())


def answered(over: GatewayHandOver, name: str = "auto") -> tuple[int, bytes, str]:
    """(status, body, who answered)"""
    handed = over.to_server(LONG, private=False, name=name)
    assert handed is not None
    code, _, pieces = handed.open(CHAT_PATH, BODY)
    return code, b"".join(pieces), handed.name


@pytest.mark.parametrize(
    "reply",
    [
        *(status(code) for code in (400, 401, 403, 404, 413, 422, 429, 500, 503)),
        drop,
        stream(data({"error": {"message": "no"}})),
        stream(event(finish="error")),
        broken_off(event("")),
        stream(b": nothing\n\n"),
        stream(b"<html>", content_type="text/html"),
        status(200, {"hello": "world"}),
    ],
)
def test_what_fails_before_its_first_word_leads_to_the_next(reply: Reply) -> None:
    listener = Hearing()
    with ChatServer(reply) as office, ChatServer(HELLO) as lab:
        code, body, name = answered(hand_over(at("office", office), at("lab", lab), listener=listener))
    assert (code, name) == (200, "lab") and b"Hello" in body
    assert json.loads(lab.requests[0].body)["model"] == "model-of-lab"
    assert [line.partition(": ")[0] for line in listener.said] == ["office", "lab"]
    assert listener.said[1].startswith("lab: office failed: ")
    assert [receipt.outcome for receipt in receipts.read().receipts] == [Outcome.FAILED, Outcome.ANSWERED]


@pytest.mark.parametrize("reply", [HELLO, WHOLE], ids=["streamed", "whole"])
def test_an_answer_goes_on_byte_by_byte(reply: Reply) -> None:
    with ChatServer(reply, reply) as lab:
        endpoint = at("lab", lab)
        code, body, _ = answered(hand_over(endpoint))
        assert code == 200 and b"Hello" in body
        assert body.endswith(b"data: [DONE]\n\n" if reply is HELLO else b"}")


@pytest.mark.parametrize("code", [400, 404, 422])
def test_the_last_ones_refusal_is_the_answer(code: int) -> None:
    with ChatServer(drop) as office, ChatServer(status(code, {"error": {"message": "seed is odd"}})) as lab:
        status_, body, _ = answered(hand_over(at("office", office), at("lab", lab)))
    assert (status_, json.loads(body)["error"]["message"]) == (code, "seed is odd")
    assert [receipt.outcome for receipt in receipts.read().receipts] == [Outcome.FAILED, Outcome.FAILED]


@pytest.mark.parametrize(("code", "again_s"), [(503, 40.0), (429, 40.0), (500, None)])
def test_the_last_ones_failure_is_an_error(code: int, again_s: float | None) -> None:
    with ChatServer(status(code, **({"Retry-After": "40"} if again_s else {}))) as lab:
        with pytest.raises(NetworkError, match=str(code)) as raised:
            answered(hand_over(at("lab", lab)))
        assert len(lab.requests) == 1, "its clients try again by themselves"
    assert raised.value.retry_after_s == again_s


def test_one_that_has_failed_rests_and_comes_last() -> None:
    with ChatServer(drop) as office, ChatServer(HELLO) as lab:
        over = hand_over(at("office", office, priority=1), at("lab", lab))
        assert [answered(over)[2] for _ in range(3)] == ["lab"] * 3
        assert [server.name for server in over.servers] == ["lab", "office"]
    assert (len(office.requests), len(lab.requests)) == (2, 3)


def test_a_server_that_asks_for_time_gets_it() -> None:
    with ChatServer(status(429, **{"Retry-After": "40"})) as office, ChatServer(HELLO) as lab:
        over = hand_over(at("office", office), at("lab", lab))
        assert [answered(over)[2] for _ in range(2)] == ["lab", "lab"]
    assert len(office.requests) == 1


def test_of_a_pool_the_least_busy_is_asked() -> None:
    with ChatServer(HELLO) as office, ChatServer(HELLO) as lab:
        pool = tuple(Endpoint(name, server.url, "m") for name, server in (("office", office), ("lab", lab)))
        with noted(pool[0], pool):
            assert answered(hand_over(*pool))[2] == "lab"
        assert answered(hand_over(*pool))[2] == "office"


def test_a_context_that_is_too_small_is_passed_over() -> None:
    with ChatServer(HELLO) as office, ChatServer(HELLO) as lab:
        small = at("office", office, limits=Limits(context=1))
        assert answered(hand_over(small, at("lab", lab)))[2] == "lab"
        with pytest.raises(ContextError, match="at least 2 tokens, the context of office is 1"):
            answered(hand_over(small))
    assert office.connections == 0


def test_what_is_private_or_named_stays() -> None:
    with ChatServer(HELLO) as lab:
        over = hand_over(at("lab", lab))
        with pytest.raises(PolicyError):
            over.to_server(LONG, private=True, name="auto")
        assert over.to_server(LONG, private=False, name="smollm2") is None
    assert lab.connections == 0


def test_a_break_in_the_middle_is_told_and_kept() -> None:
    with ChatServer(broken_off(event("One,"))) as office, ChatServer(HELLO) as lab:
        handed = hand_over(at("office", office), at("lab", lab)).to_server(LONG, private=False, name="auto")
        assert handed is not None
        pieces = read_until_it_breaks(handed.open(CHAT_PATH, BODY)[2])
    assert b"One," in b"".join(pieces) and lab.connections == 0
    assert look((at("office", office),))["office"].failures == 1
    assert [receipt.outcome for receipt in receipts.read().receipts] == [Outcome.PARTIAL]


def read_until_it_breaks(coming: Iterator[bytes]) -> list[bytes]:
    pieces: list[bytes] = []
    with pytest.raises(LlmctlError, match="broke off in the middle of the answer"):
        for piece in coming:
            pieces.append(piece)  # noqa: PERF402  # what came before the error counts
    return pieces
