"""What stands before the routes of a gateway, in the order in which a request passes it."""

from __future__ import annotations

from collections.abc import Callable

from starlette.middleware import Middleware

from llmctl.server.access import Access
from llmctl.server.host_check import AllowedHosts, HostCheck
from llmctl.server.metrics import CountRequests, Metrics
from llmctl.types.access_token import AccessToken


def guards(
    *,
    allowed: AllowedHosts,
    token_of: Callable[[str], AccessToken | None],
    token_required: bool,
    metrics: Metrics,
) -> list[Middleware]:
    """The outermost first, as ``create_app`` takes them."""
    return [
        Middleware(HostCheck, allowed=allowed),
        Middleware(Access, token_of=token_of, required=token_required),
        Middleware(CountRequests, metrics=metrics),
    ]
