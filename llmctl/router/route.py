"""Which address answers: a pure function of the plan, the policy and what was pinned on the command line."""

from __future__ import annotations

from llmctl.errors import NotFoundError, NothingFitsError, PolicyError, UsageError
from llmctl.types.endpoint import Endpoint, Local, Policy, Remote, Route
from llmctl.types.plan import Fit, NoFit

ADD = "llmctl endpoint add NAME URL --model MODEL"


def route(
    planned: Fit | NoFit | None,
    policy: Policy,
    endpoints: tuple[Endpoint, ...],
    *,
    pinned: Endpoint | None = None,
    local: bool = False,
) -> Route:
    """The route for ``planned``, what would run here; None if that was not looked at, because it can't matter.

    ``pinned`` is ``--endpoint NAME``, ``local`` is ``--local``. Local means here or not at all; a pinned endpoint
    means there or not at all, and needs a policy that lets prompts leave. Raises NothingFitsError (3),
    NotFoundError (4, a policy that wants an endpoint where none is configured), PolicyError (11), or UsageError (2)
    for both pins at once.
    """
    if local and pinned is not None:
        raise UsageError("--local and --endpoint exclude each other")
    if pinned is not None:
        if policy is Policy.LOCAL_ONLY:
            raise PolicyError(
                f"the policy is {policy}, so no prompt may go to {pinned.name}",
                hint='llmctl run --local …   or set policy = "prefer-local" in the configuration',
            )
        return Remote(pinned, "you asked for it")
    first = endpoints[0] if endpoints and not local and policy is not Policy.LOCAL_ONLY else None
    if not local and policy in (Policy.PREFER_REMOTE, Policy.REMOTE_ONLY):
        if first is not None:
            ready = planned if isinstance(planned, Fit) and planned.candidate.path is not None else None
            return Remote(first, f"the policy is {policy}", ready if policy is Policy.PREFER_REMOTE else None)
        if policy is Policy.REMOTE_ONLY:
            raise NotFoundError(f"the policy is {policy} and no endpoint is configured", hint=ADD)
    assert planned is not None, "only a pinned endpoint and remote-only make the plan irrelevant"
    if isinstance(planned, Fit):
        return Local(planned, "it fits this machine", first)
    if first is not None:
        return Remote(first, planned.reason)
    raise NothingFitsError(planned.reason, hint=f"llmctl plan --all   or let a server of yours answer: {ADD}")
