"""The steps of a set-up, whatever is answered, skipped, and gone back to."""

from __future__ import annotations

from itertools import combinations

import pytest

from llmctl.workspace.setup import steps
from llmctl.workspace.setup.steps import MOST_QUESTIONS, Course, Stage

EVERY = frozenset(Stage)


def gone_through(course: Course, *, answer: str = "y") -> list[Stage]:
    asked = []
    while course.step is not None:
        asked.append(course.step)
        course = steps.answered(course, answer)
    return asked


def test_everything_is_asked_once_in_order_and_that_is_ten_questions() -> None:
    assert gone_through(steps.begun(EVERY)) == list(Stage)
    assert steps.begun(EVERY).most == MOST_QUESTIONS


def test_what_depends_on_a_skipped_step_is_not_asked() -> None:
    assert gone_through(steps.begun(EVERY), answer="") == [
        step for step in Stage if step not in (Stage.KEY, Stage.POLICY, Stage.PROMPT)
    ]


@pytest.mark.parametrize(
    "left_out", [frozenset(each) for each in combinations([Stage.BUILD, Stage.TEXTS, Stage.EXTRAS], 2)]
)
def test_what_makes_no_sense_here_is_not_asked(left_out: frozenset[Stage]) -> None:
    asked = gone_through(steps.begun(EVERY - left_out))
    assert not left_out & set(asked) and len(asked) == len(Stage) - 2


def test_going_back_asks_again_and_the_new_answer_counts() -> None:
    course = steps.answered(steps.answered(steps.begun(EVERY), "n"), "code")
    assert course.step is Stage.LANGUAGE and course.number == 3
    again = steps.back(course)
    assert again.step is Stage.TASK and again.number == 2
    assert steps.answered(again, "chat").answers[Stage.TASK] == "chat"
    assert Stage.TASK not in steps.skipped(again).answers
    assert steps.back(steps.back(again)).step is Stage.BUILD, "the first one stays"


def test_going_back_to_a_step_of_long_ago() -> None:
    course = steps.begun(EVERY)
    while course.step is not Stage.POLICY:
        course = steps.answered(course, "x")
    assert steps.back_to(course, Stage.SERVER).step is Stage.SERVER


def test_a_step_that_turns_out_to_make_no_sense() -> None:
    course = steps.begun(frozenset({Stage.TASK, Stage.MODEL, Stage.PROMPT, Stage.SERVER}))
    at_server = steps.passed_over(steps.answered(course, "chat"))
    assert at_server.step is Stage.SERVER
    assert steps.back(at_server).step is Stage.TASK
    assert steps.answered(steps.back(at_server), "code").step is Stage.MODEL, "with another task it may make sense"


@pytest.mark.parametrize("possible", [*combinations(Stage, 1), *combinations(Stage, 2), *combinations(Stage, 10)])
def test_it_always_comes_to_an_end(possible: tuple[Stage, ...]) -> None:
    assert set(gone_through(steps.begun(frozenset(possible)))) <= set(possible)
