"""Where a key comes from: variables, files, the keyring, commands. Wherever it is, no error repeats it."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from llmctl.endpoint import keys
from llmctl.endpoint.keys import is_there, key_of
from llmctl.errors import AccessError
from llmctl.types.endpoint import KeyCommand, KeyFile, KeyReference, KeyringEntry, KeyVariable

KEY = "sk-Secret-of-the-office-0123456789"


class Entries(KeyringBackend):
    """A keyring that holds what a test puts into it. One that is locked says so."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries: dict[tuple[str, str], str] = {}
        self.is_locked = False

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def get_password(self, service: str, username: str) -> str | None:
        if self.is_locked:
            raise KeyringLocked("the keyring is locked")
        return self.entries.get((service, username))


@pytest.fixture
def entries() -> Iterator[Entries]:
    before, made = keyring.get_keyring(), Entries()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


def python(program: str) -> KeyCommand:
    return KeyCommand(shlex.join([sys.executable, "-c", program]))


def key_file(folder: Path, text: str, mode: int = 0o600) -> KeyFile:
    file = folder / "key"
    file.write_text(text)
    file.chmod(mode)
    return KeyFile(str(file))


def refusal(reference: KeyReference) -> AccessError:
    with pytest.raises(AccessError) as caught:
        key_of(reference, "office")
    everything = [*traceback.format_exception(caught.value), caught.value.message, str(caught.value.hint)]
    assert KEY not in "".join(everything)
    return caught.value


def test_in_a_file(tmp_path: Path) -> None:
    assert key_of(key_file(tmp_path, f"{KEY}\n"), "office") == KEY


def test_in_a_file_of_the_home_folder(home: Path) -> None:
    key_file(home, KEY)
    assert key_of(KeyFile("~/key"), "office") == KEY


@pytest.mark.skipif(os.name != "posix", reason="the system has no such modes")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_file_that_others_may_open_is_not_read(mode: int, tmp_path: Path) -> None:
    reference = key_file(tmp_path, KEY, mode)
    error = refusal(reference)
    assert f"is open to others (mode {mode:04o})" in error.message
    assert error.hint == f"chmod 600 {reference.path}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "which is empty"),
        (" \n", "which is empty"),
        (f"{KEY}\n{KEY}\n", "does not hold a key for office"),
        (f"key: {KEY}", "does not hold a key for office"),
        (f"{KEY}…", "does not hold a key for office"),
    ],
)
def test_a_file_that_holds_no_key(text: str, says: str, tmp_path: Path) -> None:
    assert says in refusal(key_file(tmp_path, text)).message


def test_a_file_that_is_none(tmp_path: Path) -> None:
    assert "can't be read: No such file" in refusal(KeyFile(str(tmp_path / "missing"))).message
    assert "which is no file" in refusal(KeyFile(str(tmp_path))).message
    os.mkfifo(tmp_path / "pipe")  # which nobody writes to
    assert "which is no file" in refusal(KeyFile(str(tmp_path / "pipe"))).message


def test_in_the_keyring(entries: Entries) -> None:
    entries.entries["llmctl", "office"] = KEY
    assert key_of(KeyringEntry("llmctl", "office"), "office") == KEY
    error = refusal(KeyringEntry("llmctl", "other"))
    assert error.message == "the key of office should be in the keyring's entry llmctl/other, which is empty"
    assert error.hint == "keyring set llmctl other"


def test_a_keyring_that_is_locked(entries: Entries) -> None:
    entries.is_locked = True
    assert "can't be read: the keyring is locked" in refusal(KeyringEntry("llmctl", "office")).message


def test_without_the_package_that_reads_keyrings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert refusal(KeyringEntry("llmctl", "office")).hint == 'pip install "llmctl[keyring]"'


def test_by_a_command() -> None:
    assert key_of(python(f"print('{KEY}'); print('user: me')"), "office") == KEY  # as pass keeps entries


def test_a_command_gets_no_stdin() -> None:
    assert key_of(python(f"import sys; print('{KEY}' if sys.stdin.read() == '' else 'read')"), "office") == KEY


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (KeyCommand("/no/such/program"), "can't be started: No such file"),
        (KeyCommand("echo 'unfinished"), "can't be started"),
        (KeyCommand(""), "can't be started"),
        (KeyCommand(f"cat <(echo {KEY[:4]})"), "failed (exit code 1)"),  # no shell runs it
        (python("import sys; sys.exit(3)"), "failed (exit code 3)"),
        (python("pass"), "which is empty"),
        (python("print('two words')"), "does not hold a key"),
    ],
)
def test_a_command_that_brings_no_key(command: KeyCommand, says: str) -> None:
    assert says in refusal(command).message


def test_a_command_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "COMMAND_S", 0.5)
    assert (
        "did not end within" in refusal(python(f"import time; print('{KEY[:4]}', flush=True); time.sleep(30)")).message
    )


def test_what_is_there(tmp_path: Path, entries: Entries, monkeypatch: pytest.MonkeyPatch) -> None:
    entries.entries["llmctl", "office"] = KEY
    monkeypatch.setenv("OFFICE_KEY", KEY)
    there = (KeyVariable("OFFICE_KEY"), key_file(tmp_path, KEY), KeyringEntry("llmctl", "office"), KeyCommand("true"))
    absent = (KeyVariable("OTHER"), KeyFile("nonesuch"), KeyringEntry("llmctl", "x"), KeyCommand("no-such-program x"))
    assert [is_there(each) for each in (*there, *absent)] == [True] * 4 + [False] * 4
