"""Adding a server whose certificate no authority vouches for: a person is shown its key, and decides."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest
import trustme

from llmctl import paths, settings
from llmctl.endpoint.secrets import address_of
from llmctl.errors import CertificateError, OfflineError
from llmctl.types.endpoint import SYSTEM_TRUST, Trust
from llmctl.types.listener import SilentListener
from llmctl.workspace import endpoints
from tests.fakes.chat_server import ChatServer, status
from tests.fakes.listening import HELLO, listen


class Person(SilentListener):
    """Somebody at a terminal, who answers every question in one way; None: by pressing Enter."""

    def __init__(self, answer: bool | None) -> None:
        self.answer = answer
        self.notes: list[str] = []
        self.questions: list[str] = []

    @property
    def interactive(self) -> bool:
        return True

    def note(self, text: str) -> None:
        self.notes.append(text)

    def confirm(self, question: str, *, yes: bool, by_default: bool = True) -> bool:
        self.questions.append(question)
        return by_default if self.answer is None else self.answer


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """Its first answer is to the look at its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with ChatServer(status(200, {}), HELLO, tls=context) as made:
        yield made


def test_a_person_who_knows_the_key_pins_it(server: ChatServer) -> None:
    person = Person(True)
    added = endpoints.add(person, "desk", server.url, model="m")
    pin = added.endpoint.trust.pin
    assert pin is not None and pin.startswith("sha256:")
    assert any(pin in note for note in person.notes)
    assert any("127.0.0.1" in note for note in person.notes)
    assert len(person.questions) == 1
    assert settings.load().endpoint("desk") == added.endpoint
    assert listen(address_of(added.endpoint)).text == "Hello"


@pytest.mark.parametrize("answer", [False, None], ids=["no", "Enter"])
def test_a_key_that_nobody_confirms_is_not_trusted(answer: bool | None, server: ChatServer) -> None:
    with pytest.raises(CertificateError, match="was not confirmed, so nothing was added"):
        endpoints.add(Person(answer), "desk", server.url, model="m")
    assert not paths.config_file().exists()


def test_what_is_trusted_already_is_not_asked(server: ChatServer) -> None:
    person, pinned = Person(False), Trust(pin="sha256:" + "1" * 64)
    assert endpoints.add(person, "desk", server.url, model="m", trust=pinned).endpoint.trust == pinned
    assert (person.questions, server.requests) == ([], []), "with another key than the pinned one it hears nothing"


def test_without_a_person_nothing_is_looked_at(server: ChatServer) -> None:
    assert endpoints.add(SilentListener(), "desk", server.url, model="m").endpoint.trust == SYSTEM_TRUST
    assert server.connections == 0


def test_a_server_that_is_away_is_added_without_a_look(server: ChatServer) -> None:
    person = Person(False)
    added = endpoints.add(person, "away", "https://nonesuch.invalid", model="m")
    assert added.endpoint.trust == SYSTEM_TRUST
    assert any("was not looked at" in note for note in person.notes)


def test_offline_looks_at_no_other_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCTL_OFFLINE", "1")
    person = Person(False)
    endpoints.add(person, "away", "https://nonesuch.invalid", model="m")
    assert person.notes == []
    with pytest.raises(OfflineError, match="set to stay offline"):
        endpoints.add(person, "other", "https://nonesuch.invalid", model=None)
