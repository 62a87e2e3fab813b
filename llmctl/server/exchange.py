"""What is known of one request, for those who count: no word of a prompt or an answer is in it."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

KEY = "llmctl.exchange"


@dataclass(eq=False)
class GatewayExchange:
    """``client`` is the name of the access token, empty where none is needed; ``may_use`` says which models it allows.
    ``is_stranger``: a token is needed and this has none, so it learns nothing but that the gateway is there.
    ``first_s``: from the request to the first byte of an answer. ``route``: ``local``, or the name of a server of the
    user's. Numbers of tokens are None where nobody told them."""

    client: str = ""
    is_stranger: bool = False
    may_use: Callable[[str], bool] = lambda name: True
    model: str | None = None
    route: str = "local"
    status: int | None = None
    first_s: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def exchange_of(scope: MutableMapping[str, Any]) -> GatewayExchange:
    """The one of the request with this ASGI scope."""
    exchange: GatewayExchange = scope.setdefault("state", {}).setdefault(KEY, GatewayExchange())
    return exchange
