"""``GET /v1/privacy``: what becomes of a prompt, for programs. What is said of a process is what it has given up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import aiohttp
import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from llmctl.confinement import Confinement
from llmctl.errors import LlmctlError
from llmctl.server.behind import Models
from llmctl.server.exchange import exchange_of
from llmctl.struct import asdict
from llmctl.types.endpoint import Address

PATH = "/v1/privacy"
PROMISES = {"prompts_logged": False, "answers_logged": False, "prompts_kept": False, "answers_kept": False}
"""True of every gateway: neither it nor its engines write a word of a request anywhere, nor of an answer."""
ENGINE_S = 5.0
PAGE_BYTES = 1 << 16


class Privacy:
    """``gateway`` is what its own process has given up; ``hands_over_to`` are the user's servers that a request may go
    on to."""

    def __init__(self, models: Models, gateway: Confinement, *, hands_over_to: Sequence[str] = ()) -> None:
        self._models, self._gateway, self._hands_over_to = models, gateway, tuple(hands_over_to)
        self._engines: dict[str, Confinement | None] = {}  # by address

    def route(self) -> Route:
        return Route(PATH, self._answer)

    async def _answer(self, request: Request) -> Response:
        may_use = exchange_of(request.scope).may_use
        names = [model.name for model in self._models.listed() if may_use(model.name)]
        engines = [{"model": name, **engine} for name in names if (engine := await self._engine(name)) is not None]
        gateway = {thing: given for thing, given in _given_up(self._gateway).items() if thing != "network"}
        return JSONResponse(
            {
                "object": "privacy",
                **PROMISES,
                "hands_over_to": self._hands_over_to,
                "gateway": gateway,
                "engines": engines,
            }
        )

    async def _engine(self, name: str) -> Mapping[str, Any] | None:
        """What the engine of that model has given up; None where it isn't loaded, or too busy to be asked."""
        try:
            lease = self._models.lease_now(name)
        except LlmctlError:
            return None
        if lease is None:
            return None
        with closing(lease):
            address = lease.address
            if address.url not in self._engines:
                self._engines[address.url] = await _asked(address)
        given_up = self._engines[address.url]
        return _unknown() if given_up is None else _given_up(given_up)


async def _asked(address: Address) -> Confinement | None:
    """None for an engine that doesn't say, as none does that isn't ours."""
    if address.socket is not None:
        return None
    headers = {"Authorization": f"Bearer {address.token}"}
    timeout = aiohttp.ClientTimeout(total=ENGINE_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{address.url}/privacy", headers=headers) as answer,
        ):
            return msgspec.json.decode(await answer.content.read(PAGE_BYTES), type=Confinement)
    except (aiohttp.ClientError, OSError, msgspec.MsgspecError):
        return None


def _given_up(confinement: Confinement) -> dict[str, Any]:
    return {thing: {"off": why is None, "why_not": why} for thing, why in asdict(confinement).items()}


def _unknown() -> dict[str, Any]:
    why = "this engine doesn't say"
    return _given_up(Confinement(why, why, why))
