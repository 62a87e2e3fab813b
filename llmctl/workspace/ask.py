"""From a request to its answer: by which address, with whose engine, and what it took."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import TYPE_CHECKING

from msgspec.structs import replace

from llmctl.engine.pool import Pool
from llmctl.errors import ContextError, UsageError
from llmctl.router.partial_answer import PartialAnswer
from llmctl.settings import Settings
from llmctl.types.answer import Answer
from llmctl.types.endpoint import LeaveReason, Local, Route
from llmctl.types.engine_name import EngineName
from llmctl.types.event import Event
from llmctl.types.listener import Listener
from llmctl.types.policy import Policy
from llmctl.types.request import JsonSchema, Request
from llmctl.workspace.local_run import LocalRun
from llmctl.workspace.session_engine import SessionEngine

if TYPE_CHECKING:
    from llmctl.router.limits import WaitLimits

__all__ = ["PartialAnswer", "Shorten", "answer", "estimated_tokens", "events"]

BYTES_PER_TOKEN = 3  # of UTF-8: English has four to five, source code some three
FRAME_TOKENS = 16  # what a chat template puts around the messages
IMAGE_TOKENS = 1024  # of an image; models take 64 to some 4,000
Shorten = Callable[[Request, ContextError], Request]
"""Makes less of a request that is longer than the context."""


def answer(
    listener: Listener,
    settings: Settings,
    request: Request,
    make_local_run: Callable[[], LocalRun],
    *,
    so_far: PartialAnswer,
    local: bool = False,
    endpoint: str | None = None,
    insist: bool = False,
    shorten: Shorten | None = None,
) -> Answer:
    """The answer of this machine, or of a server where the settings let the request go there; the listener hears the
    bits of it. ``make_local_run`` says what would answer on this machine, and is called only if it may.

    ``local``: here or not at all; ``endpoint``: by the server of that name or not at all; ``insist`` as ``Pool`` has
    it; with ``shorten`` a request that is too long for this machine is asked again, shorter, and stays here. Raises
    NotFoundError, PolicyError, OfflineError, NothingFitsError, what ``make_local_run`` and what the router raise;
    ``so_far`` then holds what was written.
    """
    request = replace(request, prompt_cache_bytes=settings.prompt_cache, speculates=settings.speculate)
    pool = Pool(keep_alive_s=settings.keep_alive, insist=insist, listener=listener)
    with pool, closing(SessionEngine(pool)) as engine:
        _prepare(pool, settings, local=local, endpoint=endpoint)
        from llmctl.router import answer as router

        run = run_here(settings, request, make_local_run, local=local, endpoint=endpoint)
        decided = route_of(settings, request, run, local=local, endpoint=endpoint, is_shortened=shorten is not None)
        while True:
            try:
                return router.answer(
                    decided,
                    request,
                    listener=listener,
                    lease=pool.lease if shorten is None else lambda fit: engine.lend(fit, listener),
                    so_far=so_far,
                    steps_down=None if run is None else run.steps_down,
                    record=settings.history,
                )
            except ContextError as error:
                if shorten is None:
                    raise
                request = shorten(request, error)
                if isinstance(decided, Local) and so_far.fit is not None:  # asked again without loading again
                    decided = replace(decided, fit=so_far.fit)


def events(
    listener: Listener,
    settings: Settings,
    request: Request,
    make_local_run: Callable[[], LocalRun],
    *,
    local: bool = False,
    endpoint: str | None = None,
) -> Generator[Event, None, Answer]:
    """As ``answer``, but the bits of it are yielded, and closing it gives the engine back, or hangs up."""
    request = replace(request, prompt_cache_bytes=settings.prompt_cache)
    with Pool(keep_alive_s=settings.keep_alive, listener=listener) as pool:
        _prepare(pool, settings, local=local, endpoint=endpoint)
        from llmctl.router import answer as router

        run = run_here(settings, request, make_local_run, local=local, endpoint=endpoint)
        return (
            yield from router.events(
                route_of(settings, request, run, local=local, endpoint=endpoint),
                replace(request, speculates=settings.speculate),
                listener=listener,
                lease=pool.lease,
                so_far=PartialAnswer(),
                steps_down=None if run is None else run.steps_down,
                record=settings.history,
            )
        )


def _may_answer_here(settings: Settings, *, local: bool, endpoint: str | None) -> bool:
    return endpoint is None and (settings.policy is not Policy.REMOTE_ONLY or local)


def _prepare(pool: Pool, settings: Settings, *, local: bool, endpoint: str | None) -> None:
    """Lets the engine be imported while this process imports the router, and plans. llama-server needs no import."""
    is_imported = settings.engine is not EngineName.LLAMA_SERVER
    if is_imported and _may_answer_here(settings, local=local, endpoint=endpoint):
        pool.prepare()


def run_here(
    settings: Settings, request: Request, make_local_run: Callable[[], LocalRun], *, local: bool, endpoint: str | None
) -> LocalRun | None:
    """What would answer on this machine; None where nothing here may. Raises what ``make_local_run`` raises,
    NotFoundError for an endpoint that isn't there, and UsageError for a schema that can't be kept."""
    if endpoint is not None:
        settings.endpoint(endpoint)
    if not _may_answer_here(settings, local=local, endpoint=endpoint):
        return None
    if settings.policy is not Policy.PREFER_REMOTE and settings.engine is not EngineName.LLAMA_SERVER:
        _require_possible(request)
    return make_local_run()


def _require_possible(request: Request) -> None:
    """Raises UsageError for a schema that the engine here can't keep, before anything is loaded."""
    if not isinstance(request.response_format, JsonSchema):
        return
    from llmctl.endpoint.refusal import ANY_OBJECT
    from llmctl.engine.llama_cpp import schema
    from llmctl.engine.llama_cpp.refused import RefusedError

    try:
        schema.gbnf(request.response_format.schema, "schema")
    except RefusedError as error:
        raise UsageError(str(error), hint=ANY_OBJECT) from error


def route_of(
    settings: Settings,
    request: Request,
    run: LocalRun | None,
    *,
    local: bool,
    endpoint: str | None,
    is_shortened: bool = False,
) -> Route:
    """The route of the request, where ``run`` is what would answer here. Raises what ``router.route`` raises."""
    from llmctl.router.route import route
    from llmctl.workspace.servers import in_turn

    servers = in_turn(settings)
    barred: dict[LeaveReason, str] = {} if run is None else dict(run.barred)
    if is_shortened:
        barred[LeaveReason.PROMPT_TOO_LONG] = "--truncate makes it shorter"
    return route(
        None if run is None else run.planned,
        settings.policy,
        servers.endpoints,
        pinned=None if endpoint is None else settings.endpoint(endpoint),
        local=local,
        offline=settings.offline,
        barred=barred,
        private=request.private,
        resting=servers.resting,
        limits=wait_limits(settings),
        fetched=None if run is None else run.fetched,
    )


def wait_limits(settings: Settings) -> WaitLimits:
    """How long the user waits for this machine where a server may answer."""
    from llmctl.router.limits import WaitLimits

    return WaitLimits(settings.max_first_token, settings.max_download, counts_load=not settings.keep_alive)


def estimated_tokens(request: Request) -> int:
    """Tokens of a request before a tokenizer has seen it, rather too many than too few. The exact number is the
    engine's; it decides whether the request fits."""
    text = sum(len(message.text.encode()) for message in request.messages) // BYTES_PER_TOKEN
    return text + request.image_count * IMAGE_TOKENS + FRAME_TOKENS
