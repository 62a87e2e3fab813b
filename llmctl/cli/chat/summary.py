"""Older turns of a conversation, summed up by the model where the user asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmctl.errors import UsageError
from llmctl.types.request import Sampling
from llmctl.units import number_of
from llmctl.workspace.truncation import room_for_prompt

if TYPE_CHECKING:
    from llmctl.cli.chat.session import Session

INSTRUCTION = (
    "Sum up our conversation so far in at most 150 words, so that it can go on from your summary alone: facts, names, "
    "numbers, decisions, open questions. Write the summary and nothing else."
)
MOST_TOKENS = 400


def summarise(session: Session) -> None:
    """The model sums up all turns but the last; from then on its summary goes with every prompt in their place. Raises
    UsageError where there is nothing to sum up, and what the answer raises: then the conversation is as before."""
    number = _turns_that_fit(session)
    turns = number_of(number, "turn")
    session.out.note(f"summing up the oldest {turns}:")
    messages = session.conversation.first(number).messages(INSTRUCTION)
    answer = session.answered(messages, Sampling(max_tokens=MOST_TOKENS, seed=session.sampling.seed))
    if not answer.text.strip():
        session.out.note("there is no summary: the conversation is as it was")
        return
    session.go_on_with(session.conversation.summed_up(number, answer.text.strip()))
    session.out.note(
        f"the model sees this summary in place of {turns} from now on, {session.used}; /save writes the whole "
        "conversation"
    )


def _turns_that_fit(session: Session) -> int:
    """How many of the oldest turns the model can read at once beside its summary: all but the last at most."""
    number = len(session.conversation.sent) - 1
    if number < 1:
        raise UsageError("there is nothing to sum up before the last turn", hint="/context   shows the turns")
    if session.context is None:
        return number
    room = room_for_prompt(session.context, MOST_TOKENS)
    while number and session.estimate.tokens(session.conversation.first(number).messages(INSTRUCTION)) > room:
        number -= 1
    if not number:
        raise UsageError(f"the oldest turn is too long to be summed up in {room:,} tokens", hint="/context drop 1")
    return number
