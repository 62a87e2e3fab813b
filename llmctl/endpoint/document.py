"""One JSON document posted to an engine of ours, one that answers it: embeddings, ranks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from llmctl import net
from llmctl.endpoint.refusal import keyless, refusal_of
from llmctl.endpoint.timing import ChatTiming
from llmctl.errors import NetworkError
from llmctl.types.endpoint import Address

DOING = "asking for a document"
LIMIT_BYTES = 256 << 20  # 2,048 vectors of 8,192 numbers take 90 MB


def posted(address: Address, path: str, fields: Mapping[str, Any], *, timing: ChatTiming) -> dict[str, Any]:
    """The engine's answer; ``path`` begins with a slash. It is asked once. Raises NetworkError, AccessError,
    NotFoundError, ContextError, UsageError, and EngineError for what the server refuses."""
    transport = replace(timing.transport, answer_s=timing.first_token_s)
    url = address.url + path
    with keyless(address), net.engine_session(timing=transport) as session:
        if address.token:
            session.headers["Authorization"] = f"Bearer {address.token}"
        with net.translated(url, DOING):
            headers = {"Content-Type": "application/json", "Connection": "close"}
            response = session.ask("POST", url, data=json.dumps(fields).encode(), headers=headers)
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
