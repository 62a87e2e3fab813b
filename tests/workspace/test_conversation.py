"""What of a conversation is sent, how many tokens that is taken to be, and which turns go when it gets too long."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmctl.types.request import Message
from llmctl.workspace.conversation import Conversation, TokenEstimate, Turn, turns_to_drop

TURNS = tuple(Turn(f"prompt {number}", f"answer {number}") for number in range(3))


def contents(messages: list[Message]) -> list[str]:
    return [message.text for message in messages]


def test_what_is_sent_is_the_system_message_the_turns_and_the_prompt() -> None:
    messages = Conversation("be brief", TURNS[:1]).messages("and now?")
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert contents(messages) == ["be brief", "prompt 0", "answer 0", "and now?"]


def test_dropped_turns_are_kept_and_not_sent() -> None:
    shorter = Conversation("be brief", TURNS).dropping(2)
    assert shorter.turns == TURNS
    assert contents(shorter.messages()) == ["be brief", "prompt 2", "answer 2"]
    assert shorter.dropping(9).sent == ()
    assert shorter.without_last().sent == ()
    assert shorter.without_last().with_turn(TURNS[2]) == shorter


def test_a_summary_is_sent_in_place_of_the_turns_that_it_sums_up() -> None:
    conversation = Conversation("be brief", TURNS)
    assert contents(conversation.first(1).messages("sum up")) == ["be brief", "prompt 0", "answer 0", "sum up"]
    once = conversation.summed_up(1, "plums")
    assert once.turns == TURNS
    title = "Summary of our conversation so far:"
    assert contents(once.messages())[:2] == [f"be brief\n\n{title}\nplums", "prompt 1"]
    assert contents(once.first(1).messages("sum up"))[1:] == ["prompt 1", "answer 1", "sum up"]
    twice = replace(once, system=None).summed_up(1, "plums, figs")
    assert contents(twice.messages()) == [f"{title}\nplums, figs", "prompt 2", "answer 2"]


@pytest.mark.parametrize(
    ("room", "number"),
    [(1000, 0), (150, 0), (110, 1), (80, 2), (50, 3), (30, None)],
)
def test_the_oldest_turns_go_until_the_rest_fits(room: int, number: int | None) -> None:
    estimate = TokenEstimate(2.0)
    conversation = Conversation("be brief", TURNS)
    made = turns_to_drop(conversation, "and now?", room, estimate)
    assert made == number
    if number is not None:
        assert estimate.tokens(conversation.dropping(number).messages("and now?")) <= room
    if number:
        assert estimate.tokens(conversation.dropping(number - 1).messages("and now?")) > room


def test_turns_that_are_dropped_already_are_not_counted() -> None:
    assert turns_to_drop(Conversation(None, TURNS, 2), "and now?", 40, TokenEstimate(2.0)) == 1


def test_an_estimate_is_measured_by_what_an_engine_counted_and_bounded() -> None:
    messages = Conversation(None, TURNS).messages()
    assert TokenEstimate.measured(messages, 60).tokens(messages) == 60
    assert TokenEstimate.measured(messages, 0).tokens(messages) > 0
    assert TokenEstimate.measured([], 50).bytes_per_token > 0
    assert TokenEstimate().smaller().tokens(messages) > TokenEstimate().tokens(messages)


def test_an_estimate_takes_text_that_is_no_utf8() -> None:
    assert TokenEstimate().tokens([Message.of("user", "caf\udce9")]) > 0
