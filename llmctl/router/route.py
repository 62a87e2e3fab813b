"""Which address answers: a pure function of the plan, the policy and what was pinned on the command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TypeVar

from llmctl.errors import (
    ContextError,
    DecodingError,
    EngineDiedError,
    EngineError,
    LlmctlError,
    NotFoundError,
    NothingFitsError,
    OfflineError,
    PolicyError,
    UsageError,
)
from llmctl.net import host_of, is_loopback
from llmctl.router.limits import NO_LIMITS, WaitLimits, leaves
from llmctl.types.endpoint import Barred, Endpoint, LeaveReason, Local, Remote, Route
from llmctl.types.plan import Fit, NoFit
from llmctl.types.policy import Policy

STAYS = "llmctl run --local …   or leave out --private, and files under private_paths"
ASKED_FOR = "you asked for it"
ADD = "llmctl endpoint add NAME URL --model MODEL"
OFFLINE_HINT = "leave out --offline, unset LLMCTL_OFFLINE and HF_HUB_OFFLINE, or set offline = false"
NOTHING_BARRED: Barred = {}
Resting = Mapping[str, str]
"""The names of endpoints that are left alone for a while, each with the words why."""
NOTHING_RESTS: Resting = {}

Failure = TypeVar("Failure", bound=LlmctlError)


def route(
    planned: Fit | NoFit | None,
    policy: Policy,
    endpoints: tuple[Endpoint, ...],
    *,
    pinned: Endpoint | None = None,
    local: bool = False,
    offline: bool = False,
    barred: Barred = NOTHING_BARRED,
    private: bool = False,
    resting: Resting = NOTHING_RESTS,
    limits: WaitLimits = NO_LIMITS,
    fetched: Fit | None = None,
) -> Route:
    """The route for ``planned``, what would run here; None if that was not looked at, because it can't matter.
    ``endpoints`` are in the order in which they are asked; those that are ``resting`` after failures are the last of
    them, and where this machine can answer as well they aren't asked.

    ``pinned`` is ``--endpoint NAME``, ``local`` is ``--local``. Local means here or not at all; a pinned endpoint
    means there or not at all, and needs a policy that lets prompts leave. A prompt that is ``private`` is answered here
    or not at all, and what asks for a server is refused. ``offline``: only an endpoint on this machine may be asked.
    ``barred`` are the reasons for which this prompt may not leave; ``limits`` and ``fetched`` as ``limits.leaves``
    has them. Raises NothingFitsError (3), NotFoundError (4, a
    policy that wants an endpoint where none is configured), OfflineError (5, the endpoint that must answer is on
    another machine), PolicyError (11), or UsageError (2) for both pins at once.
    """
    if local and pinned is not None:
        raise UsageError("--local and --endpoint exclude each other")
    if private and pinned is not None:
        raise refused_as_private(f"it may not go to {pinned.name}")
    if private and policy is Policy.REMOTE_ONLY and not local:
        raise refused_as_private(f"the policy {policy} leaves nothing to answer it")
    if pinned is not None:
        return _pinned(pinned, policy, offline=offline)
    local = local or private
    servers = _awake_first(allowed(policy, endpoints, local=local, offline=offline), resting)
    first = servers[0] if servers else None
    if servers and policy in (Policy.PREFER_REMOTE, Policy.REMOTE_ONLY):
        return _by_policy(servers, policy, planned, resting)
    if policy is Policy.REMOTE_ONLY and not local:
        if endpoints:
            raise _offline(endpoints[0])
        raise NotFoundError(f"the policy is {policy} and no endpoint is configured", hint=ADD)
    assert planned is not None, "only a pinned endpoint and remote-only make the plan irrelevant"
    if isinstance(planned, Fit):
        reason = None if first is None else leaves(planned, limits, fetched=fetched)
        if first is not None and reason is not None and reason[0] not in barred:
            ready = planned if planned.candidate.path is not None else None
            if ready is None or first.name not in resting:
                return Remote(first, *reason, ready, servers[1:])
        return Local(planned, "it fits this machine", first, barred if first else NOTHING_BARRED, servers[1:])
    if first is None:
        raise NothingFitsError(planned.reason, hint=f"llmctl plan --all   or let a server of yours answer: {ADD}")
    if LeaveReason.NOTHING_FITS in barred:
        raise kept(NothingFitsError(planned.reason), barred[LeaveReason.NOTHING_FITS], first)
    return Remote(first, LeaveReason.NOTHING_FITS, planned.reason, None, servers[1:])


def first_allowed(
    policy: Policy, endpoints: tuple[Endpoint, ...], *, local: bool = False, offline: bool = False
) -> Endpoint | None:
    """The endpoint that may be asked without being named, None if none may."""
    return next(iter(allowed(policy, endpoints, local=local, offline=offline)), None)


def allowed(
    policy: Policy, endpoints: tuple[Endpoint, ...], *, local: bool = False, offline: bool = False
) -> tuple[Endpoint, ...]:
    """The endpoints that may be asked without being named."""
    if local or policy is Policy.LOCAL_ONLY:
        return ()
    return tuple(endpoint for endpoint in endpoints if not offline or is_loopback(endpoint.url))


def _awake_first(endpoints: tuple[Endpoint, ...], resting: Resting) -> tuple[Endpoint, ...]:
    return tuple(sorted(endpoints, key=lambda endpoint: endpoint.name in resting))


def reason_of(error: LlmctlError, *, loaded: bool) -> LeaveReason | None:
    """The reason for which a prompt may leave after the ``error`` of the engine here, None if it may not: a model that
    is ``loaded`` and refuses this one request works."""
    if isinstance(error, ContextError):
        return LeaveReason.PROMPT_TOO_LONG
    if isinstance(error, EngineDiedError | DecodingError):
        return LeaveReason.ENGINE_FAILED
    return LeaveReason.NOT_LOADED if isinstance(error, EngineError) and not loaded else None


def refused_as_private(so: str) -> PolicyError:
    """The error for a prompt that is private and was to leave."""
    return PolicyError(f"the prompt is private: {so}", hint=STAYS)


def kept(error: Failure, why: str, endpoint: Endpoint) -> Failure:
    """The same error, saying ``why`` the prompt was not handed over to ``endpoint``."""
    hint = f"llmctl run --endpoint {shlex.quote(endpoint.name)} …   lets that server answer"
    return type(error)(f"{error.message}; {why}, so nothing was sent to {endpoint.name}", hint=hint)


def _pinned(endpoint: Endpoint, policy: Policy, *, offline: bool) -> Remote:
    if policy is Policy.LOCAL_ONLY:
        raise PolicyError(
            f"the policy is {policy}, so no prompt may go to {endpoint.name}",
            hint='llmctl run --local …   or set policy = "prefer-local" in the configuration',
        )
    if offline and not is_loopback(endpoint.url):
        raise _offline(endpoint)
    return Remote(endpoint, LeaveReason.PINNED, ASKED_FOR)


def _by_policy(servers: tuple[Endpoint, ...], policy: Policy, planned: Fit | NoFit | None, resting: Resting) -> Route:
    first, others = servers[0], servers[1:]
    if policy is Policy.REMOTE_ONLY:
        return Remote(first, LeaveReason.REMOTE_ONLY, f"the policy is {policy}", None, others)
    ready = planned if isinstance(planned, Fit) and planned.candidate.path is not None else None
    if ready is None:
        return Remote(first, LeaveReason.PREFER_REMOTE, f"the policy is {policy}", None, others)
    if first.name in resting:
        return Local(ready, f"{first.name} {resting[first.name]}")
    awake = tuple(endpoint for endpoint in others if endpoint.name not in resting)
    return Remote(first, LeaveReason.PREFER_REMOTE, f"the policy is {policy}", ready, awake)


def _offline(endpoint: Endpoint) -> OfflineError:
    return OfflineError(
        f"{endpoint.name} ({host_of(endpoint.url)}) is on another machine, and llmctl is set to stay offline",
        hint=OFFLINE_HINT,
    )
