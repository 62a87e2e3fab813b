"""Whether a server may answer while a model is fetched, and whether one is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from filelock import FileLock
from msgspec.structs import replace

from llmctl import paths
from llmctl.errors import NotFoundError
from llmctl.settings import load
from llmctl.store import Store
from llmctl.store.layout import Repository
from llmctl.types.endpoint import Endpoint
from llmctl.types.listener import SilentListener
from llmctl.types.model import Source, SourceKind
from llmctl.types.plan import Want
from llmctl.workspace import meanwhile
from tests.fakes.fits import fit_for

OFFICE = Endpoint("office", "https://llm.example.internal/v1", "m")
SHA256 = "a" * 64
HERE = fit_for(Path("/models/here.gguf"))
SOURCE = Source(SourceKind.HUB, "maker/tiny-GGUF", "tiny-Q4_0.gguf", 10**9, SHA256)
ARTIFACT = replace(HERE.candidate.artifact, source=SOURCE)
FIT = replace(HERE, candidate=replace(HERE.candidate, path=None, artifact=ARTIFACT))


@dataclass
class Person(SilentListener):
    """Answers questions in turn."""

    answers: list[bool]
    asked: list[str] = field(default_factory=list)

    @property
    def interactive(self) -> bool:
        return bool(self.answers)

    def confirm(self, question: str, *, yes: bool, by_default: bool = True) -> bool:
        if yes:
            return True
        self.asked.append(question)
        return self.answers.pop(0) if self.answers else False


@dataclass
class Looked:
    """Of a situation what matters here."""

    settings: Any
    store: Store


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(meanwhile, "start", names.append)
    return names


def asked(person: Person, *, setting: bool = False, yes: bool = False) -> bool:
    store = Store()
    looked_at = cast(Any, Looked(replace(load(), server_meanwhile=setting), store))
    return meanwhile.answers_meanwhile(person, looked_at, FIT, Want(), OFFICE, yes=yes)


@pytest.mark.parametrize(
    ("answers", "setting", "yes", "may", "questions"),
    [
        ([True, True], False, False, True, ["May office", "Download"]),
        ([False], False, False, False, ["May office"]),
        ([True], False, True, True, ["May office"]),
        ([True], True, False, True, ["Download"]),
        ([], True, True, True, []),
        ([], False, True, False, ["May office"]),
    ],
)
def test_who_is_asked_what(
    answers: list[bool], setting: bool, yes: bool, may: bool, questions: list[str], started: list[str]
) -> None:
    person = Person(answers)
    assert asked(person, setting=setting, yes=yes) is may
    assert [words for words, question in zip(questions, person.asked, strict=True) if words in question] == questions
    assert started == (["under-test:Q4_1"] if may else [])


def test_a_download_that_nobody_agreed_to_is_not_begun(started: list[str]) -> None:
    with pytest.raises(NotFoundError):
        asked(Person([True, False]))
    with pytest.raises(NotFoundError, match="nobody said yes"):
        asked(Person([]), setting=True)
    assert started == []


def test_one_that_is_going_on_is_not_begun_again(started: list[str]) -> None:
    place = Repository(paths.hub_cache(), SOURCE.repo or "").lock(SHA256)
    place.parent.mkdir(parents=True)
    with FileLock(place):
        assert asked(Person([True])) is True
    assert started == []
    assert not meanwhile.is_being_fetched(Store(), FIT.candidate)
