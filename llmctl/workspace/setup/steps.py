"""The steps of a set-up: which one comes next, and going back. Pure: what a step does is done elsewhere.

| step | asked when | its answer |
| --- | --- | --- |
| build | a GPU is here that the engine can't use | whether to install the build that can |
| task | always | what the model is for |
| language | always | a language beside English |
| limits | always | how large a download may be, and how slow an answer |
| model | something fits | which of the picks is fetched |
| prompt | a model was fetched | the first question, to the model: it is not counted |
| server | always | the address of a server of the user's own |
| key | a server was named | where its key is |
| policy | a server was named | when prompts may go there, which is the consent |
| texts | always | a folder of own texts |
| extras | something is left to switch on | keeping the model loaded, completion |
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field
from msgspec.structs import replace

MOST_QUESTIONS = 10


class Stage(StrEnum):
    """A step of a set-up."""

    BUILD = "build"
    TASK = "task"
    LANGUAGE = "language"
    LIMITS = "limits"
    MODEL = "model"
    PROMPT = "prompt"
    SERVER = "server"
    KEY = "key"
    POLICY = "policy"
    TEXTS = "texts"
    EXTRAS = "extras"


NOT_COUNTED = frozenset({Stage.PROMPT})
NEEDS: Mapping[Stage, Stage] = {
    Stage.KEY: Stage.SERVER,
    Stage.POLICY: Stage.SERVER,
    Stage.PROMPT: Stage.MODEL,
}
"""step -> the step that must have been answered, and not been skipped, for it to be asked."""


class Course(Struct, frozen=True):
    """Where a set-up is. ``step`` is to be asked now, None at the end. ``answers`` are those so far; a step that was
    skipped has none. ``behind`` are the steps that were gone through, the last one last. ``possible`` are those that
    make sense on this machine."""

    possible: frozenset[Stage]
    step: Stage | None = None
    answers: Mapping[Stage, str] = field(default_factory=dict)
    behind: tuple[Stage, ...] = ()

    @property
    def number(self) -> int:
        """Which question this is, from 1."""
        return 1 + sum(step not in NOT_COUNTED for step in self.behind)

    @property
    def most(self) -> int:
        """How many questions there are if all are asked."""
        return len(self.possible - NOT_COUNTED)


def begun(possible: frozenset[Stage]) -> Course:
    """The first step."""
    return _at_next(Course(possible), after=None)


def answered(course: Course, answer: str) -> Course:
    """The step was done with this answer. An empty one counts as skipped."""
    if not answer:
        return skipped(course)
    return _onward(replace(course, answers={**course.answers, _now(course): answer}))


def skipped(course: Course) -> Course:
    """The step was left out; an answer that it had before is forgotten."""
    now = _now(course)
    return _onward(replace(course, answers={step: text for step, text in course.answers.items() if step is not now}))


def back(course: Course) -> Course:
    """The step before, to be asked again; the first one stays."""
    if not course.behind:
        return course
    return replace(course, step=course.behind[-1], behind=course.behind[:-1])


def back_to(course: Course, step: Stage) -> Course:
    """That step again, which was gone through."""
    while course.step is not step and course.behind:
        course = back(course)
    return course


def passed_over(course: Course) -> Course:
    """The next step: this one has turned out to make no sense with the answers so far. Going back passes it over, too,
    unless other answers change that."""
    now = _now(course)
    answers = {step: text for step, text in course.answers.items() if step is not now}
    return _at_next(replace(course, answers=answers), after=now)


def _now(course: Course) -> Stage:
    assert course.step is not None, "nothing is asked at the end"
    return course.step


def _onward(course: Course) -> Course:
    now = _now(course)
    return _at_next(replace(course, behind=(*course.behind, now)), after=now)


def _at_next(course: Course, *, after: Stage | None) -> Course:
    order = list(Stage)
    ahead = order if after is None else order[order.index(after) + 1 :]
    return replace(course, step=next((step for step in ahead if _is_asked(step, course)), None))


def _is_asked(step: Stage, course: Course) -> bool:
    return step in course.possible and (step not in NEEDS or NEEDS[step] in course.answers)
