"""Which models there are, and whether they answer: ``/v1/models`` and ``/health``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from llmctl.server.behind import ListedModel, Models
from llmctl.server.errors import refusal, speaks_anthropic
from llmctl.server.exchange import exchange_of


def routes(models: Models) -> Sequence[Route]:
    started = int(time.time())

    def allowed(request: Request) -> Sequence[ListedModel]:
        may_use = exchange_of(request.scope).may_use
        return [model for model in models.listed() if may_use(model.name)]

    async def list_models(request: Request) -> Response:
        shown = [_shown(model, request, started) for model in allowed(request)]
        return JSONResponse(_anthropic_page(shown) if speaks_anthropic(request.scope) else _page(shown))

    async def show_model(request: Request) -> Response:
        name = request.path_params["name"]
        for model in allowed(request):
            if model.name == name:
                return JSONResponse(_shown(model, request, started))
        return refusal(
            request.scope,
            404,
            "model_not_found",
            f"there is no model {name!a:.200}; /v1/models has those that there are",
        )

    async def health(request: Request) -> Response:
        now = models.health()
        status = "draining" if now.draining else "ready" if now.ready else "loading"
        exchange = exchange_of(request.scope)
        loading = {} if exchange.is_stranger else {"loading": [*filter(exchange.may_use, now.loading)]}
        return JSONResponse({"status": status, **loading}, 200 if status == "ready" else 503)

    return (
        Route("/v1/models", list_models),
        Route("/v1/models/{name:path}", show_model),
        Route("/health", health),
    )


def _shown(model: ListedModel, request: Request, started: int) -> dict[str, Any]:
    if speaks_anthropic(request.scope):
        created = datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"type": "model", "id": model.name, "display_name": model.name, "created_at": created}
    return {
        "id": model.name,
        "object": "model",
        "created": started,
        "owned_by": "llmctl",
        "context_length": model.context,
        "tasks": list(model.tasks),
        "state": str(model.state),
        "writes": model.writes,
        "size_bytes": model.size_bytes,
        "decode_tok_s": model.decode_tok_s,
        "openness": model.openness,
        "licence": model.licence,
    }


def _page(shown: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": shown}


def _anthropic_page(shown: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ends = [shown[at]["id"] for at in (0, -1)] if shown else [None, None]
    return {"data": shown, "has_more": False, "first_id": ends[0], "last_id": ends[1]}
