"""What would answer a prompt, and why: the route, without loading, fetching or sending anything."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from llmctl import units
from llmctl.errors import ContextError
from llmctl.net import host_of
from llmctl.router.answer import handed_over
from llmctl.router.limits import first_token_s, leaves
from llmctl.router.partial_answer import PartialAnswer
from llmctl.router.room import require_room
from llmctl.router.route import first_allowed
from llmctl.settings import Settings
from llmctl.types.endpoint import LOCAL_FAILURES, Endpoint, LeaveReason, Local, Remote, Route, Side
from llmctl.types.plan import Fit, NoFit
from llmctl.types.policy import Policy
from llmctl.types.request import Request
from llmctl.workspace.ask import estimated_tokens, route_of, run_here, wait_limits
from llmctl.workspace.local_run import LocalRun

NO_SERVER = "no server was added"


class Answering(Struct, frozen=True):
    """Who would answer: a server (``endpoint``, ``host``), or a model here. ``context`` is None where a server has not
    said; ``download_bytes`` is what would have to be fetched first."""

    side: Side
    endpoint: str | None
    host: str | None
    model: str
    quant: str | None
    context: int | None
    download_bytes: int


class Reason(Struct, frozen=True):
    """Whether one reason for which a prompt may leave ``holds``; None where only trying tells. ``says`` has the
    figures; ``barred`` is why the prompt stays all the same."""

    left_because: LeaveReason
    holds: bool | None
    says: str
    barred: str | None


class Routed(Struct, frozen=True):
    """``fallback`` answers where the first fails before its first word, unless the reason that this would be is barred;
    ``others`` are the servers that are asked where a server before them fails, in their order.
    ``stays_because``: why no server may be asked at all; None where one may."""

    answers: Answering
    reason: str
    left_because: LeaveReason | None
    fallback: Answering | None
    stays_because: str | None
    reasons: tuple[Reason, ...]
    others: tuple[Answering, ...] = ()


def routed(
    settings: Settings,
    request: Request,
    make_local_run: Callable[[], LocalRun],
    *,
    local: bool = False,
    endpoint: str | None = None,
    is_shortened: bool = False,
) -> Routed:
    """The route that ``ask.answer`` would take with the same arguments; ``make_local_run`` must not fetch anything.
    Raises what that raises before something is loaded or sent."""
    run = run_here(settings, request, make_local_run, local=local, endpoint=endpoint)
    route = route_of(settings, request, run, local=local, endpoint=endpoint, is_shortened=is_shortened)
    if isinstance(route, Local):
        route = _with_room(route, request)
    return Routed(
        answers=_answering(route),
        reason=route.reason,
        left_because=route.why if isinstance(route, Remote) else None,
        fallback=_fallback(route),
        stays_because=None if isinstance(route, Remote) else _stays_because(settings, request, local=local),
        reasons=tuple(_reason(why, settings, request, run, route, endpoint) for why in LeaveReason),
        others=tuple(map(_server, route.others)) if isinstance(route, Remote) or _fallback(route) else (),
    )


def _with_room(route: Local, request: Request) -> Route:
    """The route for a prompt that is surely too long for what would answer here. Raises ContextError."""
    try:
        require_room(request, route.fit.context)
    except ContextError as error:
        return handed_over(route, error, PartialAnswer(), request)
    return route


def _answering(route: Route) -> Answering:
    return _server(route.endpoint) if isinstance(route, Remote) else _model(route.fit)


def _fallback(route: Route) -> Answering | None:
    if isinstance(route, Remote):
        return None if route.fallback is None else _model(route.fallback)
    if route.fallback is None or route.barred.keys() >= LOCAL_FAILURES:
        return None
    return _server(route.fallback)


def _server(endpoint: Endpoint) -> Answering:
    host, context = host_of(endpoint.url), endpoint.limits.context
    return Answering(Side.REMOTE, endpoint.name, host, endpoint.model, None, context, 0)


def _model(fit: Fit) -> Answering:
    candidate = fit.candidate
    fetched = fit.download_bytes if candidate.path is None else 0
    return Answering(Side.LOCAL, None, None, candidate.model.id, candidate.artifact.quant, fit.context, fetched)


def _stays_because(settings: Settings, request: Request, *, local: bool) -> str | None:
    """Why no server may be asked; None where one may."""
    if request.private:
        return "the prompt is private"
    if local:
        return "--local"
    if not settings.endpoints:
        return NO_SERVER
    if settings.policy is Policy.LOCAL_ONLY:
        return f"the policy is {settings.policy}"
    if first_allowed(settings.policy, settings.endpoints, offline=settings.offline) is None:
        return "llmctl is set to stay offline, and no server is on this machine"
    return None


def _reason(
    why: LeaveReason,
    settings: Settings,
    request: Request,
    run: LocalRun | None,
    route: Route,
    endpoint: str | None,
) -> Reason:
    holds, says = _state(why, settings, request, None if run is None else run.planned, endpoint)
    if isinstance(route, Remote) and route.why is why:
        holds = True
    barred = route.barred if isinstance(route, Local) else {} if run is None else run.barred
    return Reason(why, holds, says, barred.get(why))


def _state(
    why: LeaveReason, settings: Settings, request: Request, planned: Fit | NoFit | None, endpoint: str | None
) -> tuple[bool | None, str]:
    """Whether the reason holds, as far as that is known before anything is loaded, and what says so."""
    if why is LeaveReason.PINNED:
        return endpoint is not None, "no --endpoint is given" if endpoint is None else f"--endpoint {endpoint}"
    if why is LeaveReason.PREFER_REMOTE or why is LeaveReason.REMOTE_ONLY:
        return settings.policy.value == why.value, f"the policy is {settings.policy}"
    if planned is None:
        return None, "not looked at: no model here is asked"
    if isinstance(planned, NoFit):
        is_this = why is LeaveReason.NOTHING_FITS
        return is_this, planned.reason if is_this else "there is no model to ask"
    if why is LeaveReason.NOTHING_FITS:
        needs, pace = units.size(planned.memory.must_fit_bytes), units.tok_s(planned.speed.decode_tok_s)
        return False, f"{planned.candidate.model.id} fits: {needs} of memory, about {pace} tok/s"
    if why is LeaveReason.PROMPT_TOO_LONG:
        tokens = estimated_tokens(request)
        surely_fits = tokens <= planned.context
        return (
            False if surely_fits else None,
            f"the prompt has about {tokens:,} tokens, the context is {planned.context:,}",
        )
    if why is LeaveReason.LIMIT_MISSED:
        return _missed_limit(settings, planned)
    if why is LeaveReason.DOWNLOADING:
        return False, _downloads(settings, planned)
    return None, "only loading tells" if why is LeaveReason.NOT_LOADED else "only answering tells"


def _missed_limit(settings: Settings, fit: Fit) -> tuple[bool, str]:
    """Whether ``fit`` takes longer, or a larger download, than the user allows."""
    limits = wait_limits(settings)
    first = f"first token after about {units.seconds(first_token_s(fit, limits))}"
    of_first = "" if limits.first_token_s is None else f" (limit: {units.seconds(limits.first_token_s)})"
    fetched = "nothing to fetch" if fit.candidate.path is not None else f"{units.size(fit.download_bytes)} to fetch"
    of_fetched = "" if limits.download_bytes is None else f" (limit: {units.size(limits.download_bytes)})"
    set_ = "" if of_first or of_fetched else "; max_first_token and max_download would limit that"
    return leaves(fit, limits) is not None, f"{first}{of_first}, {fetched}{of_fetched}{set_}"


def _downloads(settings: Settings, fit: Fit) -> str:
    if fit.candidate.path is not None:
        return "the model is here"
    return "the model has to be fetched first" + ("" if settings.server_meanwhile else "; server_meanwhile is false")
