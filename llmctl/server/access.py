"""Who may use the gateway, and how much in a minute: by the token that comes with each request."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import Response

from llmctl.errors import LlmctlError
from llmctl.server.errors import refusal
from llmctl.server.exchange import GatewayExchange, exchange_of
from llmctl.server.rate import MinuteLimit
from llmctl.types.access_token import PREFIX, AccessToken

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LOG = logging.getLogger("llmctl.gateway")
UNREADABLE = "the gateway can't read its tokens: its log says why"  # which is no business of whoever has none
OPEN_PATHS = frozenset({"/health"})  # for what starts and ends services, which has no token
HOW = "send one as 'Authorization: Bearer TOKEN' or 'x-api-key: TOKEN'; `llmctl token add NAME` makes it"


class Access:
    """Lets a request through that brings a token, or any where none is ``required``; but never what is, or was, a token
    of llmctl's that no longer opens anything. ``token_of`` finds what is kept of a token; ``open_paths`` need none."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        token_of: Callable[[str], AccessToken | None],
        required: bool,
        open_paths: frozenset[str] = OPEN_PATHS,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._token_of, self._required, self._now_s = app, token_of, required, now_s
        self._open_paths = open_paths
        self._used: dict[str, _Used] = {}
        self._logged = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] in self._open_paths:
            self._note_who_asks(scope)
            await self._app(scope, receive, send)
            return
        try:
            token, why_not = self._token(_brought(scope))
        except LlmctlError as error:
            self._log(error)
            await refusal(scope, 503, "unavailable", UNREADABLE)(scope, receive, send)
            return
        if why_not is not None:
            await _unauthorized(scope, why_not)(scope, receive, send)
        elif token is None:
            await self._app(scope, receive, send)
        else:
            await self._within_limits(token, scope, receive, send)

    def _note_who_asks(self, scope: Scope) -> None:
        """Where anybody is let in."""
        exchange = exchange_of(scope)
        try:
            token, why_not = self._token(_brought(scope))
        except LlmctlError:
            token, why_not = None, UNREADABLE
        exchange.is_stranger = why_not is not None
        _note_token(exchange, token)

    async def _within_limits(self, token: AccessToken, scope: Scope, receive: Receive, send: Send) -> None:
        used = self._used.setdefault(token.sha256, _Used(token))
        wait_s, limit = used.wait(self._now_s())
        if wait_s > 0:
            again_s = math.ceil(wait_s)
            message = f"the token {token.name} may use {limit} a minute: again in {again_s} s"
            await refusal(scope, 429, "rate_limit_exceeded", message, retry_after_s=again_s)(scope, receive, send)
            return
        exchange = exchange_of(scope)
        _note_token(exchange, token)
        used.begin(self._now_s())
        try:
            await self._app(scope, receive, send)
        finally:
            used.end(self._now_s(), exchange)

    def _log(self, error: LlmctlError) -> None:
        """Once, however many requests come."""
        if error.message != self._logged:
            self._logged = error.message
            LOG.error("nobody gets in: %s", error.message)

    def _token(self, brought: Sequence[str]) -> tuple[AccessToken | None, str | None]:
        """The token that a request brings, and why it isn't let in; neither where it needs none. Raises ConfigError."""
        token = next((token for token in map(self._token_of, brought) if token is not None), None)
        if token is not None:
            return (
                (None, f"the token {token.name} expired at {token.expires}") if token.has_expired() else (token, None)
            )
        if any(text.startswith(PREFIX) for text in brought):
            return None, "no such token, or it was revoked"
        if self._required:
            return None, f"a token is needed, and this is none: {HOW}" if brought else f"a token is needed: {HOW}"
        return None, None  # programs that insist on a key send any


def _note_token(exchange: GatewayExchange, token: AccessToken | None) -> None:
    exchange.client = "" if token is None else token.name
    if token is not None and token.models:
        exchange.may_use = token.models.__contains__


class _Used:
    """What one token has used of its limits in the last minute."""

    def __init__(self, token: AccessToken) -> None:
        requests, tokens = token.requests_per_minute, token.tokens_per_minute
        self._requests = None if requests is None else MinuteLimit(requests)
        self._tokens = None if tokens is None else MinuteLimit(tokens)

    def wait(self, now_s: float) -> tuple[float, str]:
        """Seconds until there may be another request, and the limit which says so: "20 requests"."""
        limits = [(self._requests, "requests"), (self._tokens, "tokens")]
        waits = [(limit.wait_s(now_s), f"{limit.most:,} {of}") for limit, of in limits if limit is not None]
        return max(waits, default=(0.0, ""))

    def begin(self, now_s: float) -> None:
        if self._requests is not None:
            self._requests.add(now_s, 1)

    def end(self, now_s: float, exchange: GatewayExchange) -> None:
        if self._tokens is not None:
            self._tokens.add(now_s, (exchange.prompt_tokens or 0) + (exchange.completion_tokens or 0))


def _brought(scope: Scope) -> list[str]:
    """What may be tokens in the headers of a request."""
    headers = Headers(scope=scope)
    keys = [value for value in headers.getlist("x-api-key") if value]
    for value in headers.getlist("authorization"):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            keys.append(token.strip())
    return keys


def _unauthorized(scope: Scope, message: str) -> Response:
    return refusal(scope, 401, "invalid_api_key", message, headers={"www-authenticate": "Bearer"})
