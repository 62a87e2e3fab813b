"""Runs a route: streams the answer, hands over when it may and must, and writes the receipt of what executed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from msgspec.structs import replace

from llmctl.endpoint.local import ask, prepare
from llmctl.engine.pool import Lease
from llmctl.errors import ContextError, EngineError, LlmctlError, NetworkError, ResourceError
from llmctl.router.executed import answer_of, kept_events
from llmctl.router.lending import StepsDown, lent
from llmctl.router.partial_answer import PartialAnswer
from llmctl.router.room import require_room
from llmctl.router.route import kept, reason_of
from llmctl.router.servers import able_to_go_on, ask_servers, require_not_private
from llmctl.types.answer import Answer, Executed, Predicted
from llmctl.types.endpoint import LeaveReason, Local, Remote, Route, Side
from llmctl.types.event import Event
from llmctl.types.listener import Listener
from llmctl.types.plan import Fit
from llmctl.types.request import Request, Sampling

ENGINE_FAILED = LeaveReason.ENGINE_FAILED


def answer(
    route: Route,
    request: Request,
    *,
    listener: Listener,
    lease: Lease,
    so_far: PartialAnswer,
    steps_down: StepsDown | None = None,
    record: bool = True,
) -> Answer:
    """Executes ``route`` as ``events`` does, tells the listener of each event, and returns what was executed."""
    stream = events(route, request, listener=listener, lease=lease, so_far=so_far, steps_down=steps_down, record=record)
    with closing(stream):
        while True:
            try:
                event = next(stream)
            except StopIteration as end:
                receipt: Answer = end.value
                return receipt
            listener.event(event)


def events(
    route: Route,
    request: Request,
    *,
    listener: Listener,
    lease: Lease,
    so_far: PartialAnswer,
    steps_down: StepsDown | None = None,
    record: bool = True,
) -> Generator[Event, None, Answer]:
    """Executes ``route``: yields the answer's events as they come, and returns what was executed; with ``record``
    the history gets a line for a local run. Closing it gives the engine back, or hangs up.

    The file of a local route is on this machine; ``lease`` lends an engine for it, and where it can't get the memory
    that was planned, for the next of ``steps_down`` that can. Before the first event, a local failure of the engine or
    of the context goes to the route's fallback endpoint, unless the route bars that reason, and any failure of an
    endpoint to the next one, at last to the local fallback. After it, a server that ``continues`` goes on with what is
    there; where there is none, errors are raised and ``so_far`` holds the partial text. Raises whatever engine and
    client raise.
    """
    if isinstance(route, Remote):
        require_not_private(request, route.endpoint)
        try:
            return (yield from ask_servers(route, request, listener, so_far))
        except LlmctlError as error:
            if route.fallback is None or so_far.first_token is not None:
                raise
            listener.staying(error.message)
            fit, reason = route.fallback, _local_reason(route, error)
            return (yield from _local(fit, reason, request, listener, lease, steps_down, so_far, record))
    try:
        return (yield from _local(route.fit, route.reason, request, listener, lease, steps_down, so_far, record))
    except (EngineError, ContextError) as error:
        remote = handed_over(route, error, so_far, request)
        so_far.load_s = None
        return (yield from ask_servers(remote, request, listener, so_far))


def handed_over(route: Local, error: LlmctlError, so_far: PartialAnswer, request: Request) -> Remote:
    """The route to the fallback endpoint after the local ``error``, or, once a part of the answer is there, to the
    first that may go on with it. Raises ``error`` where there is none, or where the prompt may not leave for it."""
    why = reason_of(error, loaded=so_far.load_s is not None)
    if route.fallback is None or why is None or (so_far.first_token is not None and why is not ENGINE_FAILED):
        raise error
    servers = able_to_go_on((route.fallback, *route.others), request, so_far)
    if not servers:
        raise error
    if why in route.barred:
        raise kept(error, route.barred[why], servers[0]) from error
    return Remote(servers[0], why, error.message, None, servers[1:])


def _local_reason(route: Remote, error: LlmctlError) -> str:
    """Why this machine answers instead of a server."""
    if route.others:
        return f"none of {1 + len(route.others)} servers answered"
    fails = "can't be reached" if isinstance(error, NetworkError) else "can't answer"
    return f"{route.endpoint.name} {fails}"


def _local(
    fit: Fit,
    reason: str,
    request: Request,
    listener: Listener,
    lease: Lease,
    steps_down: StepsDown | None,
    so_far: PartialAnswer,
    record: bool,
) -> Generator[Event, None, Answer]:
    require_room(request, fit.context)
    prepare()
    with lent(fit, lease, steps_down, listener) as (fit, engine):
        so_far.load_s, so_far.fit = engine.load_s, fit
        require_room(request, fit.context)
        if engine.sequences != fit.configuration.sequences:
            from llmctl.planner.sequences import with_sequences

            fit = with_sequences(fit, engine.sequences)
        listener.loaded(fit, engine)
        asked = replace(request, sampling=local_sampling(fit, request.sampling, speculates=request.speculates))
        finished = yield from kept_events(ask(engine, asked), so_far)
    executed = Executed(Side.LOCAL, None, fit.candidate.model.id, fit.candidate.artifact.quant, reason)
    predicted = Predicted(fit.speed.decode_tok_s, fit.memory.must_fit_bytes, fit.speed.basis)
    receipt = answer_of(so_far, finished, executed, predicted)
    if record:
        from llmctl.engine import history

        speed = receipt.timings
        # An engine tells no times of what it has computed beside others' answers: that says nothing of the machine.
        decode_tok_s = None if finished.decode_s is None else speed.decode_tok_s
        try:
            history.record(history.run_of(fit, engine, finished, decode_tok_s, speed.prefill_tok_s))
        except ResourceError as error:
            listener.warn(f"what this answer took is not recorded: {error.message}")
    return receipt


def local_sampling(fit: Fit, sampling: Sampling, *, speculates: bool = True) -> Sampling:
    """The model's published defaults below what was asked for, and thinking as the plan has counted on. With a draft
    model that was named, tokens are drafted whatever the sampling is; without ``speculates`` none are."""
    defaults, asked = dict(fit.candidate.model.sampling or {}), dict(sampling.extra or {})
    if fit.draft is not None and fit.draft.is_asked_for:
        defaults["speculate"] = True
    elif not speculates:
        defaults["speculate"] = False
    template = {"enable_thinking": fit.thinking, **(asked.get("chat_template_kwargs") or {})}
    return replace(sampling, extra={**defaults, **asked, "chat_template_kwargs": template})
