"""The gateway's routes."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Route as Path

from llmctl.server import listing
from llmctl.server.answering import PING_S, Behind, Route
from llmctl.server.behind import Models
from llmctl.server.errors import refusal
from llmctl.server.threads import Threads
from llmctl.server.upstream import Upstream
from llmctl.server.wire import openai

PASSED = (
    *(openai.CHAT, openai.COMPLETIONS, openai.EMBEDDINGS, openai.RERANK),
    *(openai.TOKENIZE, openai.DETOKENIZE),
)


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
        threads = Threads()
        upstream = Upstream(threads)
        app.state.behind = Behind(models, upstream, threads, ping_s)
        try:
            yield
        finally:
            await upstream.close()
            threads.close()

    def behind() -> Behind:
        found: Behind = app.state.behind
        return found

    paths = [
        *(_written(path, Route(behind, functools.partial(openai.read, path=path))) for path in PASSED),
        *listing.routes(models),
        *routes,
    ]
    app = Starlette(
        routes=paths, middleware=middleware, lifespan=lifespan, exception_handlers={404: _nothing, 405: _nothing}
    )
    app.router.redirect_slashes = False
    return app


def _written(path: str, route: Route) -> Path:
    return Path(path, route, methods=["POST"])


async def _nothing(request: Request, error: Exception) -> Response:
    """In place of Starlette's own pages."""
    assert isinstance(error, HTTPException)
    method, path = request.method[:16], request.url.path[:200]
    if error.status_code == 405:
        message = f"{path!a} doesn't take {method}"
        return refusal(request.scope, 405, "method_not_allowed", message, headers=error.headers)
    return refusal(request.scope, 404, "not_found", f"there is nothing at {path!a}", headers=error.headers)
