"""A request in OpenAI's shape that was made by another program, and the bytes of a server's answer to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from llmctl import net
from llmctl.endpoint.address import chat_url
from llmctl.endpoint.refusal import keyless
from llmctl.endpoint.session import session_to
from llmctl.endpoint.timing import ChatTiming
from llmctl.net.body import decoded, pieces
from llmctl.types.endpoint import Address

CHAT_PATH = "/v1/chat/completions"
READING = "reading the answer"


class ForwardedAnswer(Struct, frozen=True):
    """``pieces`` are of the body, decoded, as they come. Reading them raises NetworkError."""

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]


def with_model(body: bytes, model: str) -> bytes:
    """The same request for the model that is called so on the server."""
    fields: dict[str, Any] = json.loads(body)
    return json.dumps({**fields, "model": model}).encode()


@contextmanager
def forwarded(
    address: Address, body: bytes, *, timing: ChatTiming, on_sent: Callable[[int], None]
) -> Iterator[ForwardedAnswer]:
    """The server's answer to a chat completion of ``body``, asked once; leaving the context hangs up. ``on_sent`` as
    ``client.chat`` has it. Raises NetworkError (CertificateError), AccessError, ConfigError."""
    url = chat_url(address.url)
    transport = replace(timing.transport, answer_s=min(timing.first_token_s, timing.silent_s))
    with keyless(address), session_to(address, transport, on_sent) as session:
        if address.token:
            session.headers["Authorization"] = f"Bearer {address.token}"
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "Connection": "close"}
        with net.translated(url, "asking the server", hint="llmctl endpoint list"):
            response = session.ask("POST", url, data=body, headers=headers)
        with response:
            coming = decoded(response, pieces(response, READING), READING)
            yield ForwardedAnswer(response.status_code, response.headers, coming)
