"""Runs a route: streams the answer, hands over when it may and must, and writes the receipt of what executed."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing

from msgspec.structs import replace

from llmctl.endpoint.client import chat, request_body
from llmctl.endpoint.local import ask, prepare
from llmctl.endpoint.secrets import address_of
from llmctl.endpoint.timing import timing_of
from llmctl.engine.pool import Lease
from llmctl.errors import ContextError, EngineError, LlmctlError, NetworkError, ResourceError
from llmctl.net import host_of
from llmctl.router.lending import StepsDown, lent
from llmctl.router.partial_answer import PartialAnswer
from llmctl.router.receipts import recorded
from llmctl.router.room import require_room
from llmctl.router.route import kept, reason_of, refused_as_private
from llmctl.types.answer import Answer, Executed, LeftMachine, Predicted, Timings
from llmctl.types.endpoint import Local, Remote, Route, Side
from llmctl.types.event import Event, Finished, Usage
from llmctl.types.listener import Listener
from llmctl.types.plan import Fit
from llmctl.types.request import Request, Sampling


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
    that was planned, for the next of ``steps_down`` that can. Before the first event, a local
    failure of the engine or of the context goes to the route's fallback endpoint, unless the route bars that reason,
    and an unreachable endpoint to its local fallback; after it, errors are raised and ``so_far`` holds the partial
    text. Raises whatever engine and client raise.
    """
    if isinstance(route, Remote):
        try:
            return (yield from _remote(route, request, listener, so_far))
        except NetworkError as error:
            if route.fallback is None or so_far.first_token is not None:
                raise
            listener.staying(error.message)
            fit, reason = route.fallback, f"{route.endpoint.name} can't be reached"
            return (yield from _local(fit, reason, request, listener, lease, steps_down, so_far, record))
    try:
        return (yield from _local(route.fit, route.reason, request, listener, lease, steps_down, so_far, record))
    except (EngineError, ContextError) as error:
        remote = handed_over(route, error, so_far)
        so_far.load_s = None
        return (yield from _remote(remote, request, listener, so_far))


def handed_over(route: Local, error: LlmctlError, so_far: PartialAnswer) -> Remote:
    """The route to the fallback endpoint after the local ``error``. Raises ``error`` where there is none, or where the
    prompt may not leave for it."""
    why = reason_of(error, loaded=so_far.load_s is not None)
    if route.fallback is None or so_far.first_token is not None or why is None:
        raise error
    if why in route.barred:
        raise kept(error, route.barred[why], route.fallback) from error
    return Remote(route.fallback, why, error.message)


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
        finished = yield from _kept(ask(engine, asked), so_far)
    executed = Executed(Side.LOCAL, None, fit.candidate.model.id, fit.candidate.artifact.quant, reason)
    predicted = Predicted(fit.speed.decode_tok_s, fit.memory.must_fit_bytes, fit.speed.basis)
    receipt = _receipt(so_far, finished, executed, predicted)
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
    """The model's published defaults below what was asked for, and thinking as the plan has counted on; without
    ``speculates`` the engine is asked not to draft tokens."""
    defaults, asked = dict(fit.candidate.model.sampling or {}), dict(sampling.extra or {})
    if not speculates:
        defaults["speculate"] = False
    template = {"enable_thinking": fit.thinking, **(asked.get("chat_template_kwargs") or {})}
    return replace(sampling, extra={**defaults, **asked, "chat_template_kwargs": template})


def _remote(
    route: Remote, request: Request, listener: Listener, so_far: PartialAnswer
) -> Generator[Event, None, Answer]:
    endpoint = route.endpoint
    if request.private:  # no route that ``route`` makes for it comes here; a prompt has no second door
        raise refused_as_private(f"nothing may go to {endpoint.name}")
    address = address_of(endpoint)
    if endpoint.limits.context is not None:
        require_room(request, endpoint.limits.context, f"the context of {endpoint.name}")
    body = request_body(address, request)
    host = host_of(address.url)
    listener.leaving(endpoint, host, route.reason)

    def sent(count: int) -> None:
        before = 0 if so_far.left is None else so_far.left.bytes
        so_far.left = LeftMachine(host=host, bytes=before + count, tls=address.url.startswith("https:"))

    with recorded(route, so_far, listener):
        finished = yield from _kept(chat(address, body, timing=timing_of(endpoint.limits), on_sent=sent), so_far)
    executed = Executed(Side.REMOTE, endpoint.name, endpoint.model, None, route.reason, route.why)
    return _receipt(so_far, finished, executed, None)


def _kept(stream: Generator[Event, None, None], so_far: PartialAnswer) -> Generator[Event, None, Finished]:
    """Passes the events on, and keeps what they bring in ``so_far``. Returns the last."""
    event: Event | None = None
    with closing(stream):
        for event in stream:
            so_far.add(event)
            yield event
    assert isinstance(event, Finished), "a stream ends with Finished or raises"
    return event


def _receipt(so_far: PartialAnswer, finished: Finished, executed: Executed, predicted: Predicted | None) -> Answer:
    now = time.perf_counter()
    usage = finished.usage
    return Answer(
        text="".join(so_far.text),
        reasoning="".join(so_far.reasoning) or None,
        route=executed,
        usage=usage,
        timings=Timings(
            load_s=so_far.load_s,
            first_token_s=None if so_far.first_token is None else so_far.first_token - so_far.started,
            prefill_tok_s=_rate(finished.prefill_tokens, finished.prefill_s),
            decode_tok_s=_decode_rate(so_far, usage),
            total_s=now - so_far.started,
            drafted_tokens=finished.drafted_tokens,
            accepted_tokens=finished.accepted_tokens,
        ),
        predicted=predicted,
        left_machine=so_far.left,
        finish_reason=finished.finish_reason,
        measured=finished.measured if executed.side is Side.LOCAL else None,  # not what a server tells of its own
    )


def _decode_rate(so_far: PartialAnswer, usage: Usage) -> float | None:
    """Tokens after the first one over the time from the first to the last, as seen here."""
    if so_far.first_token is None or so_far.last_token is None or usage.completion_tokens is None:
        return None
    return _rate(usage.completion_tokens - 1, so_far.last_token - so_far.first_token)


def _rate(count: int | None, over_s: float | None) -> float | None:
    return count / over_s if count and over_s and count > 0 else None
