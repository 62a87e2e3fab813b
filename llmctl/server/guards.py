"""A gateway with what stands before its routes, in the order in which a request passes it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from starlette.middleware import Middleware

from llmctl.confinement import Confinement
from llmctl.server import web
from llmctl.server.access import OPEN_PATHS, Access
from llmctl.server.app import create_app
from llmctl.server.behind import Models
from llmctl.server.gateway import Gateway
from llmctl.server.host_check import AllowedHosts, HostCheck
from llmctl.server.limits import LimitedProtocol, allow_open_files
from llmctl.server.metrics import CountRequests, Metrics
from llmctl.server.privacy import Privacy
from llmctl.server.tls import LiveCertificate
from llmctl.server.web import WebPage
from llmctl.types.access_token import AccessToken

if TYPE_CHECKING:
    from llmctl.server.own_texts import OwnTexts
    from llmctl.server.sealed import Sealing


class Guard(Struct, frozen=True):
    """Who may use a gateway, and what it says of itself. ``token_of`` finds what is kept of a token; ``certificate``
    has the files of certificate and key, None for plain http; ``hands_over_to`` names the servers that a request may go
    on to; ``sealing`` is None where no sealed requests are taken, ``page``, which is for people, where there is none,
    ``texts`` where none may be searched."""

    allowed: AllowedHosts
    token_of: Callable[[str], AccessToken | None]
    token_required: bool
    given_up: Confinement
    certificate: tuple[Path, Path] | None = None
    hands_over_to: tuple[str, ...] = ()
    sealing: Sealing | None = None
    page: WebPage | None = None
    texts: OwnTexts | None = None


def guarded_gateway(models: Models, listening: socket.socket, guard: Guard) -> Gateway:
    """Raises ConfigError for a certificate that can't be used."""
    allow_open_files()
    metrics = Metrics()
    privacy = Privacy(models, guard.given_up, hands_over_to=guard.hands_over_to)
    routes = [metrics.route(), privacy.route(), *(() if guard.page is None else web.routes(guard.page))]
    app = create_app(models, middleware=guards(guard, metrics), routes=routes)
    tls = None if guard.certificate is None else LiveCertificate(*guard.certificate).context
    return Gateway(app, listening, tls=tls, protocol=LimitedProtocol)


def guards(guard: Guard, metrics: Metrics) -> list[Middleware]:
    """The outermost first, as ``create_app`` takes them."""
    open_paths = OPEN_PATHS if guard.page is None else OPEN_PATHS | web.open_paths()
    return [
        Middleware(HostCheck, allowed=guard.allowed),
        *_sealed(guard.sealing),
        Middleware(Access, token_of=guard.token_of, required=guard.token_required, open_paths=open_paths),
        Middleware(CountRequests, metrics=metrics),
        *_own_texts(guard.texts),
    ]


def _own_texts(texts: OwnTexts | None) -> list[Middleware]:
    if texts is None:
        return []
    from llmctl.server.own_texts import OwnTextsRequests

    return [Middleware(OwnTextsRequests, texts=texts)]


def _sealed(sealing: Sealing | None) -> list[Middleware]:
    """What a request is opened by before its token is looked at, which is sealed, too."""
    if sealing is None:
        return []
    from llmctl.server.sealed import SealedRequests

    return [Middleware(SealedRequests, sealing=sealing)]
