"""One JSON document posted to an engine of ours or to a server, and one that answers it: embeddings, ranks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from llmctl import net
from llmctl.endpoint.address import CHAT
from llmctl.endpoint.refusal import keyless, refusal_of
from llmctl.endpoint.session import session_to
from llmctl.endpoint.timing import ChatTiming
from llmctl.errors import NetworkError
from llmctl.types.endpoint import Address

if TYPE_CHECKING:
    from llmctl.net.response import AskingSession

DOING = "asking for a document"
LIMIT_BYTES = 256 << 20  # 2,048 vectors of 8,192 numbers take 90 MB


def posted(address: Address, path: str, fields: Mapping[str, Any], *, timing: ChatTiming) -> dict[str, Any]:
    """The engine's answer; ``path`` begins with a slash. It is asked once. Raises NetworkError, AccessError,
    NotFoundError, ContextError, UsageError, and EngineError for what the server refuses."""
    transport = replace(timing.transport, answer_s=timing.first_token_s)
    with net.engine_session(timing=transport) as session:
        return _answer(session, address, path, fields, timing)


def posted_to_server(
    address: Address, path: str, fields: Mapping[str, Any], *, timing: ChatTiming, on_sent: Callable[[int], None]
) -> dict[str, Any]:
    """As ``posted``, to a server of the user's, sealed where it has a key for that; ``on_sent`` as ``client.chat`` has
    it. Raises CertificateError and ConfigError, too."""
    transport = replace(timing.transport, answer_s=timing.first_token_s)
    with keyless(address), session_to(address, transport, on_sent) as session:
        return _answer(session, replace(address, url=address.url.removesuffix(CHAT)), path, fields, timing)


def _answer(
    session: AskingSession, address: Address, path: str, fields: Mapping[str, Any], timing: ChatTiming
) -> dict[str, Any]:
    with keyless(address):
        if address.token:
            session.headers["Authorization"] = f"Bearer {address.token}"
        with net.translated(address.url + path, DOING):
            headers = {"Content-Type": "application/json", "Connection": "close"}
            response = session.ask("POST", address.url + path, data=json.dumps(fields).encode(), headers=headers)
        with response:
            if not 200 <= response.status_code < 300:
                raise refusal_of(response, address, page_s=timing.page_s).error
            body = net.whole(response, DOING, limit_bytes=LIMIT_BYTES, within_s=timing.between_s)
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise NetworkError(f"{net.host_of(address.url)} sent something that is not a JSON object")
    return answer
