"""The gateway's routes."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from llmctl.server import listing, openapi
from llmctl.server.answering import PING_S, Behind, ModelRoute
from llmctl.server.behind import Models
from llmctl.server.blocking import BlockingCalls
from llmctl.server.errors import refusal
from llmctl.server.upstream import Upstream
from llmctl.server.wire import anthropic_request, openai, responses_request
from llmctl.server.wire.shape import ModelRequest

PASSED = (
    *(openai.CHAT, openai.COMPLETIONS, openai.EMBEDDINGS, openai.RERANK),
    *(openai.TOKENIZE, openai.DETOKENIZE),
)
RESPONSES = "/v1/responses"
MESSAGES, COUNT_TOKENS = "/v1/messages", "/v1/messages/count_tokens"


def create_app(
    models: Models,
    *,
    middleware: Sequence[Middleware] = (),
    routes: Sequence[BaseRoute] = (),
    ping_s: float = PING_S,
) -> Starlette:
    """The application in front of ``models``; ``middleware``, the outermost first, and further ``routes`` are those of
    whoever starts it. ``ping_s``: for so long nothing may be heard of an answer that is streamed."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        threads = BlockingCalls()
        upstream = Upstream(threads)
        app.state.behind = Behind(models, upstream, threads, ping_s)
        try:
            yield
        finally:
            await upstream.close()
            threads.close()

    def behind() -> Behind:
        behind: Behind = app.state.behind
        return behind

    def answered(path: str, read: Callable[[bytes], ModelRequest]) -> Route:
        return Route(path, ModelRoute(behind, read), methods=["POST"])

    paths = [
        *(answered(path, functools.partial(openai.read, path=path)) for path in PASSED),
        answered(RESPONSES, responses_request.read),
        answered(MESSAGES, anthropic_request.read),
        answered(COUNT_TOKENS, functools.partial(anthropic_request.read, path=anthropic_request.COUNT)),
        *listing.routes(models),
        openapi.route(),
        *routes,
    ]
    app = Starlette(
        routes=paths, middleware=middleware, lifespan=lifespan, exception_handlers={404: _nothing, 405: _nothing}
    )
    app.router.redirect_slashes = False
    return app


async def _nothing(request: Request, error: Exception) -> Response:
    """In place of Starlette's own pages."""
    assert isinstance(error, HTTPException)
    method, path = request.method[:16], request.url.path[:200]
    if error.status_code == 405:
        message = f"{path!a} doesn't take {method}"
        return refusal(request.scope, 405, "method_not_allowed", message, headers=error.headers)
    return refusal(request.scope, 404, "not_found", f"there is nothing at {path!a}", headers=error.headers)
