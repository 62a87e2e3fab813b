"""From the events of an answer to what was executed."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing

from llmctl.router.partial_answer import PartialAnswer
from llmctl.types.answer import Answer, Executed, Predicted, Timings
from llmctl.types.endpoint import Side
from llmctl.types.event import Event, Finished, Usage


def kept_events(stream: Generator[Event, None, None], so_far: PartialAnswer) -> Generator[Event, None, Finished]:
    """Passes the events on, and keeps what they bring in ``so_far``. Returns the last."""
    event: Event | None = None
    with closing(stream):
        for event in stream:
            so_far.add(event)
            yield event
    assert isinstance(event, Finished), "a stream ends with Finished or raises"
    return event


def answer_of(
    so_far: PartialAnswer, finished: Finished, executed: Executed, predicted: Predicted | None = None
) -> Answer:
    """What has come, and by whom."""
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
        cost=so_far.cost,
    )


def _decode_rate(so_far: PartialAnswer, usage: Usage) -> float | None:
    """Tokens after the first one over the time from the first to the last, as seen here."""
    if so_far.first_token is None or so_far.last_token is None or usage.completion_tokens is None:
        return None
    return _rate(usage.completion_tokens - 1, so_far.last_token - so_far.first_token)


def _rate(count: int | None, over_s: float | None) -> float | None:
    return count / over_s if count and over_s and count > 0 else None
