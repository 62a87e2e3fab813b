"""How an answer comes: typed at a terminal, or the default of each question."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from llmctl.cli.output import Output
from llmctl.cli.setup.questions import BACK, KEYS, SKIP, Question, lines
from llmctl.cli.table import columns_of
from llmctl.workspace.setup.steps import Stage

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

MOST_COLUMNS = 80
SHOWN = (Stage.BUILD, Stage.MODEL)  # what is offered there is worth reading without a question, too


def columns() -> int:
    """How wide the screens are."""
    return min(MOST_COLUMNS, columns_of(sys.stderr))


class Asker(Protocol):
    """Who answers the questions."""

    @property
    def is_person(self) -> bool:
        """Whether a question may be asked again after an answer that can't be."""

    def ask(self, question: Question, heading: str, *, again: bool) -> str:
        """What is answered; empty for skipping. ``again``: the question is on the screen already."""


class Defaults:
    """--yes: every question answers itself, and is still shown."""

    is_person = False

    def __init__(self, out: Output) -> None:
        self._out = out

    def ask(self, question: Question, heading: str, *, again: bool) -> str:
        for line in question.before if question.step in SHOWN else ():
            self._out.unbroken(line)
        self._out.note(f"{question.title}: {question.default or 'skipped'} (--yes)")
        return question.default


class Person:
    """A line editor on stderr, for stdout is the model's."""

    is_person = True

    def __init__(self, out: Output) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.output import create_output

        self._out = out
        self._session: PromptSession[str] = PromptSession(
            output=create_output(stdout=sys.stderr), bottom_toolbar=KEYS, reserve_space_for_menu=0
        )

    def ask(self, question: Question, heading: str, *, again: bool) -> str:
        for line in () if again else lines(question, columns(), heading):
            self._out.unbroken(line)
        shown = f" [{question.default}]" if question.default else ""
        try:
            typed = self._session.prompt(f"{shown} › ".lstrip(), completer=_completer([*question.names, BACK, SKIP]))
        except EOFError as error:  # Ctrl-D leaves as Ctrl-C does
            raise KeyboardInterrupt from error
        return typed.strip() or question.default


def _completer(names: Iterable[str]) -> Completer:
    from prompt_toolkit.completion import Completer, Completion

    class Names(Completer):
        """Of the choices, by the Tab key."""

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            typed = document.text_before_cursor
            if complete_event.completion_requested:
                yield from (Completion(name, -len(typed)) for name in names if name.startswith(typed))

    return Names()
