"""The client, asked by a test: what it heard, and what it failed with."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

import pytest

from llmctl.endpoint.client import chat
from llmctl.endpoint.timing import ChatTiming
from llmctl.errors import LlmctlError
from llmctl.types.endpoint import Address
from llmctl.types.event import Finished, Reasoning, Text, ToolCall
from tests.fakes.chat_server import DONE, ChatServer, event, stream

KEY = "sk-Secret-of-the-office-0123456789"
BODY = b'{"messages": []}'
HELLO = stream(event("Hello"), event(finish="stop"), DONE)
SOON = ChatTiming(first_token_s=0.6, between_s=0.6, after_finish_s=0.2, page_s=0.3, back_off_s=0.01)


@dataclass(frozen=True)
class Heard:
    text: str
    reasoning: str
    finished: Finished
    tool_calls: tuple[ToolCall, ...] = ()


def listen(address: Address, body: bytes = BODY, **more: Any) -> Heard:
    *events, finished = list(chat(address, body, **more))
    assert isinstance(finished, Finished)
    assert all(event.text if isinstance(event, Text | Reasoning) else isinstance(event, ToolCall) for event in events)
    return Heard(
        "".join(event.text for event in events if isinstance(event, Text)),
        "".join(event.text for event in events if isinstance(event, Reasoning)),
        finished,
        tuple(event for event in events if isinstance(event, ToolCall)),
    )


def heard(*segments: bytes) -> Heard:
    with ChatServer(stream(*segments)) as server:
        return listen(server.address())


def failure(server: ChatServer, kind: type[LlmctlError], timing: ChatTiming = SOON, **address: Any) -> LlmctlError:
    """The error of exactly that class that asking ``server`` ends with; the key is nowhere in it."""
    made = server.address(token=KEY, **address)
    with pytest.raises(kind) as caught:
        listen(made, timing=timing)
    assert type(caught.value) is kind
    everything = [*traceback.format_exception(caught.value), repr(caught.value), repr(made), str(caught.value.hint)]
    assert KEY not in "".join(everything)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400
    return caught.value
