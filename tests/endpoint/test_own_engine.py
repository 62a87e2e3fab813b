"""The way to an engine of ours takes no library but Python's own, and fails as the way to any server does."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from msgspec.structs import replace

from llmctl.endpoint.client import chat
from llmctl.endpoint.document import posted
from llmctl.errors import LlmctlError, NetworkError, UnreachableError
from llmctl.net import Timing
from llmctl.types.endpoint import Address
from llmctl.types.event import Event, Finished, Text
from tests.fakes.chat_server import DONE, ChatServer, Handler, Reply, broken_off, drop, event, silence, status, stream
from tests.fakes.listening import BODY, KEY, SOON

ANSWERS = """
import sys
from llmctl.endpoint.client import chat
from llmctl.types.endpoint import Address
print(list(chat(Address({url!r}, "m"), b"{{}}", tries=1, own_engine=True)))
print({{"requests", "urllib3"}} & set(sys.modules))
"""


def asked(address: Address, sent: list[int] | None = None) -> list[Event]:
    on_sent = None if sent is None else sent.append
    return list(chat(address, BODY, tries=1, timing=SOON, own_engine=True, on_sent=on_sent))


def test_it_imports_no_http_library() -> None:
    with ChatServer(stream(event("Hi"), event(finish="stop"), DONE)) as server:
        command = [sys.executable, "-c", ANSWERS.format(url=server.url)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "text='Hi'" in answer
    assert answer.endswith("\nset()\n")


def test_the_request_and_what_was_sent_of_it() -> None:
    sent: list[int] = []
    with ChatServer(stream(event("Hi"), event(finish="stop"), DONE)) as server:
        *text, finished = asked(server.address(token=KEY), sent)
        (received,) = server.requests
    assert text == [Text("Hi")] and isinstance(finished, Finished)
    assert received.body == BODY and sum(sent) == len(BODY)
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.headers["accept"] == "text/event-stream"


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (drop, NetworkError, "broke the connection"),
        (silence, NetworkError, "did not answer in time"),
        (broken_off(event("Hi")), NetworkError, "broke off in the middle of the answer"),
        (status(500, {"error": {"message": "decoding failed: 1"}}), NetworkError, "answered 500: decoding failed: 1"),
    ],
)
def test_what_fails(reply: Reply, kind: type[LlmctlError], words: str) -> None:
    with ChatServer(reply) as server, pytest.raises(kind, match=words):
        asked(server.address(token=KEY))


def test_an_engine_may_read_for_longer_than_a_server_may_be_silent() -> None:
    def slow(handler: Handler) -> None:
        time.sleep(0.4)
        stream(event("Hi"), event(finish="stop"), DONE)(handler)

    patient = replace(SOON, first_token_s=5.0, transport=Timing(idle_s=0.1))
    with ChatServer(slow) as server:
        first, _ = chat(server.address(), BODY, tries=1, timing=patient, own_engine=True)
    assert first == Text("Hi")


def test_nobody_listens() -> None:
    with ChatServer() as server:
        address = server.address()
    with pytest.raises(UnreachableError, match="can't be reached"):
        asked(address)
    with pytest.raises(UnreachableError, match="can't be reached"):
        posted(address, "/embeddings", {}, timing=SOON)


def test_a_document() -> None:
    with ChatServer(status(200, {"data": [1, 2]})) as server:
        assert posted(server.address(token=KEY), "/embeddings", {"input": "a"}, timing=SOON) == {"data": [1, 2]}
        (received,) = server.requests
    assert json.loads(received.body) == {"input": "a"}
