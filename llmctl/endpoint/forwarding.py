"""A request in OpenAI's shape that was made by another program, and the bytes of a server's answer to it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from llmctl import net
from llmctl.endpoint.address import chat_url
from llmctl.endpoint.answer import Heard
from llmctl.endpoint.refusal import keyless, refusal_of
from llmctl.endpoint.session import session_to
from llmctl.endpoint.stream import Clock, broken, documents, received
from llmctl.endpoint.timing import ChatTiming
from llmctl.errors import NetworkError
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


def texts(body: bytes) -> Iterator[str]:
    """What the messages of a request say, each part of them."""
    fields: dict[str, Any] = json.loads(body)
    for message in fields.get("messages") or ():
        content = message.get("content")
        for part in content if isinstance(content, list) else [content]:
            text = part.get("text") if isinstance(part, dict) else part
            if isinstance(text, str):
                yield text


@contextmanager
def forwarded(
    address: Address,
    body: bytes,
    *,
    timing: ChatTiming,
    on_sent: Callable[[int], None],
    passes_on: Callable[[int], bool] = bool,
) -> Iterator[ForwardedAnswer]:
    """The server's answer to a chat completion of ``body``, asked once, as soon as its first word is here; leaving the
    context hangs up. ``on_sent`` as ``client.chat`` has it; ``passes_on`` says by its status whether a refusal is an
    answer as well. Raises NetworkError (CertificateError), AccessError, ConfigError, and what a refusal, or an error in
    place of the first word, means."""
    url = chat_url(address.url)
    transport = replace(timing.transport, answer_s=min(timing.first_token_s, timing.silent_s))
    with keyless(address), session_to(address, transport, on_sent) as session:
        if address.token:
            session.headers["Authorization"] = f"Bearer {address.token}"
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "Connection": "close"}
        first_by_s = time.monotonic() + timing.first_token_s
        with net.translated(url, "asking the server", hint="llmctl endpoint list"):
            response = session.ask("POST", url, data=body, headers=headers)
        with response:
            if 200 <= response.status_code < 300:
                coming = _begun(response, address, timing, Clock(first_by_s, timing.silent_s))
            elif passes_on(response.status_code):
                coming = decoded(response, pieces(response, READING), READING)
            else:
                raise refusal_of(response, address, page_s=timing.page_s).error
            yield ForwardedAnswer(response.status_code, response.headers, coming)


def _begun(response: net.Response, address: Address, timing: ChatTiming, clock: Clock) -> Iterator[bytes]:
    """The body of an answer whose first word is here. Raises NetworkError, EngineError."""
    host, body = net.host_of(address.url), received(response, clock)
    try:
        begun = _until_first_word(body, address)
    except NetworkError as error:
        raise broken(error, host, timing, clock, has_begun=False) from error
    return _going_on(begun, body, host, timing, clock)


def _until_first_word(body: Iterator[bytes], address: Address) -> bytes:
    """The beginning of a body up to the first word of an answer, or its end. Raises NetworkError for an answer that
    ends before it, EngineError for an error in its place."""
    begun, heard, host = bytearray(), Heard(address), net.host_of(address.url)

    def noted() -> Iterator[bytes]:
        for piece in body:
            begun.extend(piece)
            yield piece

    for document in documents(noted(), host):
        if document is None or any(heard.events(document)) or heard.characters or heard.finish_reason is not None:
            return bytes(begun)
    raise NetworkError(f"{host} broke off before the first word of an answer")


def _going_on(begun: bytes, body: Iterator[bytes], host: str, timing: ChatTiming, clock: Clock) -> Iterator[bytes]:
    """``begun``, then the rest of the body. Raises NetworkError."""
    clock.restart(timing.between_s)
    yield begun
    try:
        for piece in body:
            clock.restart(timing.between_s)
            yield piece
    except NetworkError as error:
        raise broken(error, host, timing, clock, has_begun=True) from error
