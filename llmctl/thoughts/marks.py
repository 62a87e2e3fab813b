"""How models mark their thoughts: ``profiles/thinking.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from msgspec import Struct

from llmctl import paths


class Marks(Struct, frozen=True):
    """One way of marking thoughts. The fields are explained in ``profiles/thinking.toml``."""

    of: str
    open: tuple[str, ...]
    close: tuple[str, ...]
    answer: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    header: str = ""
    control: bool = False
    lone_close: bool = True
    opened_for: tuple[str, ...] = ()
    may_open_for: tuple[str, ...] = ()
    only_for: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def all(self) -> Iterator[str]:
        yield from (*self.open, *self.close, *self.answer, *self.end)
        if self.header:
            yield self.header

    def opened_by_template_of(self, model: str) -> bool:
        """Whether the model of this name is one whose template opens the thought."""
        return any(part in f"{model.lower()}-" for part in self.opened_for)

    def stands_in(self, template: str) -> bool:
        """Whether a chat template writes or removes these marks."""
        return not self.only_for and any(mark in template for mark in (*self.open, *self.close) if mark != "<|end|>")


@cache
def table() -> tuple[Marks, ...]:
    """All ways of marking thoughts."""
    return tuple(_marks(row) for row in _profile()["thoughts"])


@cache
def _profile() -> Mapping[str, Any]:
    return tomllib.loads((paths.profiles_dir() / "thinking.toml").read_text("utf-8"))


def _marks(row: Mapping[str, Any]) -> Marks:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    for name in ("open", "close"):
        fields[name] = tuple(dict.fromkeys(spelt for mark in fields[name] for spelt in _spellings(mark)))
    return Marks(**fields)


def _spellings(mark: str) -> Iterator[str]:
    """A mark as it stands in the table, and a tag that is cut into words as models also spell it."""
    yield mark
    if re.fullmatch(r"</?[a-z]+>", mark):
        yield mark.upper()
        yield re.sub("[a-z]", lambda letter: letter[0].upper(), mark, count=1)
        yield f"{mark[:-1]} >"


def marks_for(model: str) -> tuple[Marks, ...]:
    """The ways of marking that can count for the model of this name, those of its own first."""
    name = model.lower()
    own = tuple(row for row in table() if any(part in name for part in row.only_for))
    return own + tuple(row for row in table() if not row.only_for)


def guessed_for(model: str) -> Marks | None:
    """The marks with which the template of the served model of this name probably opens a thought."""
    return next((row for row in table() if row.opened_by_template_of(model)), None)


def may_be_opened_for(model: str) -> bool | None:
    """Whether an answer of the served model of this name may turn out to have begun with a thought that its template
    has opened; None for a name that says nothing."""
    name = f"{model.lower()}-"
    if any(part in name for row in table() for part in row.may_open_for):
        return True
    return False if any(part in name for part in _profile()["never_for"]) else None


def opened_at_the_end(prompt: str, rows: tuple[Marks, ...]) -> Marks | None:
    """The marks with which a prompt's end has opened a thought without closing it; None if it has opened none."""
    last = {row: (_last(prompt, row.open), _last(prompt, row.close)) for row in rows}
    opened = [row for row, (begun, closed) in last.items() if begun > closed]
    return max(opened, key=lambda row: last[row][0], default=None)


def _last(text: str, marks: tuple[str, ...]) -> int:
    return max(text.rfind(mark) for mark in marks)
