"""From a request to its answer: by which address, with whose engine, and what it took."""

from __future__ import annotations

from collections.abc import Callable, Generator

from llmctl.engine.pool import Pool
from llmctl.router import answer as router
from llmctl.router.answer import PartialAnswer
from llmctl.router.route import route
from llmctl.settings import Settings
from llmctl.types.answer import Answer, Piece
from llmctl.types.endpoint import Policy, Route
from llmctl.types.listener import Listener
from llmctl.types.request import Request
from llmctl.workspace.local_run import LocalRun

__all__ = ["PartialAnswer", "answer", "estimated_tokens", "events"]

BYTES_PER_TOKEN = 3  # of UTF-8: English has four to five, source code some three
FRAME_TOKENS = 16  # what a chat template puts around the messages


def answer(
    listener: Listener,
    settings: Settings,
    request: Request,
    here: Callable[[], LocalRun],
    *,
    so_far: PartialAnswer,
    local: bool = False,
    endpoint: str | None = None,
    insist: bool = False,
) -> Answer:
    """The answer of this machine, or of a server where the settings let the request go there; the listener hears the
    bits of it. ``here`` says what would answer on this machine, and is called only if it may.

    ``local``: here or not at all; ``endpoint``: by the server of that name or not at all; ``insist`` as ``Pool`` has
    it. Raises NotFoundError, PolicyError, OfflineError, NothingFitsError, what ``here`` and what the router raise;
    ``so_far`` then holds what was written.
    """
    with Pool(keep_alive_s=settings.keep_alive, insist=insist, listener=listener) as pool:
        decided = _route(pool, settings, request, here, local=local, endpoint=endpoint)
        return router.answer(
            decided, request, listener=listener, lease=pool.lease, so_far=so_far, record=settings.history
        )


def events(
    listener: Listener,
    settings: Settings,
    request: Request,
    here: Callable[[], LocalRun],
    *,
    local: bool = False,
    endpoint: str | None = None,
) -> Generator[Piece, None, Answer]:
    """As ``answer``, but the bits of it are yielded, and closing it gives the engine back, or hangs up."""
    with Pool(keep_alive_s=settings.keep_alive, listener=listener) as pool:
        decided = _route(pool, settings, request, here, local=local, endpoint=endpoint)
        return (
            yield from router.events(
                decided,
                request,
                listener=listener,
                lease=pool.lease,
                so_far=PartialAnswer(),
                record=settings.history,
            )
        )


def _route(
    pool: Pool,
    settings: Settings,
    request: Request,
    here: Callable[[], LocalRun],
    *,
    local: bool,
    endpoint: str | None,
) -> Route:
    pinned = None if endpoint is None else settings.endpoint(endpoint)
    policy, endpoints, offline, private = settings.policy, settings.endpoints, settings.offline, request.private
    if pinned is not None or (policy is Policy.REMOTE_ONLY and not local):
        return route(None, policy, endpoints, pinned=pinned, local=local, offline=offline, private=private)
    pool.prepare()  # imports the engine while we plan
    ready = here()
    return route(ready.planned, policy, endpoints, local=local, offline=offline, barred=ready.barred, private=private)


def estimated_tokens(request: Request) -> int:
    """Tokens of a request before a tokenizer has seen it, rather too many than too few. The exact number is the
    engine's; it decides whether the request fits."""
    return sum(len(message.text.encode()) for message in request.messages) // BYTES_PER_TOKEN + FRAME_TOKENS
