"""``llmctl endpoint``: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import json
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl import paths, settings
from llmctl.cli import main
from llmctl.endpoint.again import add_command
from llmctl.endpoint.secrets import address_of
from llmctl.errors import PolicyError
from llmctl.types.endpoint import Endpoint, KeyCommand, KeyFile, KeyReference, KeyringEntry, KeyVariable, Limits, Trust
from llmctl.types.policy import Policy
from tests.fakes.chat_server import ChatServer, Reply, status

KEY = "sk-Secret-of-the-office-0123456789"
PIN = "sha256:" + "0" * 64
OFFICE = ("office", "https://llm.example.internal", "--model", "qwen3-32b")


class Ran:
    """One command: its exit code and what it said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def document(self) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(self.out)
        assert set(made) == {"schema", "command", "data", "warnings", "error"}
        assert made["schema"] == "llmctl/1"
        return made


@pytest.fixture
def endpoint(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Ran:
        code = main(["endpoint", *arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ran(code, captured.out, captured.err)

    return run


def test_add(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFICE_KEY", KEY)
    ran = endpoint("add", *OFFICE, "--key-env", "OFFICE_KEY")
    assert ran.code == 0
    assert ran.out == ""
    assert "Added office: qwen3-32b at llm.example.internal. Policy: prefer-local." in ran.err
    assert "llmctl run --endpoint office" in ran.err
    loaded = settings.load()
    assert loaded.endpoints == (
        Endpoint("office", "https://llm.example.internal/v1", "qwen3-32b", KeyVariable("OFFICE_KEY")),
    )
    assert loaded.policy is Policy.PREFER_LOCAL
    file = paths.config_file()
    assert str(file) in ran.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert KEY not in file.read_text() + ran.err


def test_add_json(endpoint: Any) -> None:
    ran = endpoint("add", *OFFICE, "--json")
    assert ran.code == 0
    assert ran.err == ""
    assert ran.document["command"] == "endpoint add"
    assert ran.document["error"] is None
    unset = ["key_env", "key_file", "key_keyring", "key_command", "key_set", "ca_file", "pin", "context"]
    unset += ["client_cert", "client_key", "proxy", "silent_s", "price_in", "price_out", "seal_key", "seal_pad"]
    assert ran.document["data"] == {
        "name": "office",
        "url": "https://llm.example.internal/v1",
        "model": "qwen3-32b",
        **dict.fromkeys((*unset, "connect_s", "first_token_s", "between_s", "readers")),
        "plain_http": False,
        "priority": 0,
        "continues": False,
        "policy": "prefer-local",
    }


def test_all_that_can_be_said_of_a_server_is_kept_and_shown(endpoint: Any, home: Path) -> None:
    (home / "key").write_text(KEY)
    (home / "key").chmod(0o600)
    limits = ("--context", "32768", "--connect-s", "3", "--first-token-s", "20", "--between-s", "5", "--priority", "2")
    assert endpoint("add", *OFFICE, "--key-file", "key", "--pin", PIN, *limits, "--readers", "me, on my desk").code == 0
    office = settings.load().endpoint("office")
    assert office.key == KeyFile(str(home / "key"))
    assert (office.trust, office.limits, office.priority) == (Trust(pin=PIN), Limits(32768, 3, 20, 5), 2)
    ran = endpoint("show", "office")
    assert ran.code == 0
    shown = (str(home / "key"), PIN, "32,768 tokens of context", "first word 20 s", "me, on my desk", "asked first")
    assert [said for said in shown if said not in ran.out] == []
    data = endpoint("show", "office", "--json").document["data"]
    assert (data["pin"], data["key_file"], data["key_set"]) == (PIN, str(home / "key"), True)
    assert KEY not in ran.out + ran.err + paths.config_file().read_text()
    assert endpoint("show", "nobody").code == 4


@pytest.mark.parametrize(
    ("option", "text", "kept"),
    [
        ("--key-cmd", "true --of office", KeyCommand("true --of office")),
        ("--key-keyring", "office", KeyringEntry("llmctl", "office")),
        ("--key-keyring", "work/llm/me", KeyringEntry("work/llm", "me")),
    ],
)
def test_where_a_key_is(
    option: str, text: str, kept: KeyReference, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmctl.workspace.endpoint_key.is_there", lambda key: True)  # looked for in test_keys
    assert endpoint("add", *OFFICE, option, text).code == 0
    assert settings.load().endpoint("office").key == kept


@pytest.mark.parametrize("key", [KeyVariable("OFFICE_KEY"), KeyFile("/home/me/my key"), KeyringEntry("llmctl", "it's")])
def test_the_command_that_adds_it_again_says_all(key: KeyReference, endpoint: Any, home: Path) -> None:
    office = Endpoint(
        "office",
        "http://llm.example.internal/v1",
        "it's a model",
        key,
        plain_http=True,
        limits=Limits(32768, 3, 20.5, 5),
        priority=2,
        readers='"me" & mine',
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmctl.workspace.endpoint_key.is_there", lambda key: True)
        assert endpoint(*shlex.split(add_command(office))[2:]).code == 0
    assert settings.load().endpoint("office") == office
    secretive = replace(office, key=KeyCommand("echo sk-secret"))
    assert "secret" not in add_command(secretive)


def test_which_is_asked_first(endpoint: Any) -> None:
    for name in ("one", "two", "three"):
        endpoint("add", name, f"https://{name}", "-m", "m")
    ran = endpoint("default", "three", "--json")
    assert ran.document["data"] == {
        "name": "three",
        "endpoints": ["three", "one", "two"],
        "policy": "prefer-local",
    }
    assert endpoint("default", "two").err == "two is asked first. Policy: prefer-local.\n"
    assert [each.name for each in settings.load().endpoints] == ["two", "three", "one"]
    before = paths.config_file().read_text()
    assert endpoint("default", "two").code == 0
    assert paths.config_file().read_text() == before
    assert endpoint("default", "four").code == 4


def test_the_model_may_be_left_out_where_the_server_has_one(endpoint: Any) -> None:
    def listing(*names: str) -> Reply:
        return status(200, {"data": [{"id": name} for name in names]})

    with ChatServer(listing("only"), listing("big", "small"), listing()) as server:
        ran = endpoint("add", "lone", server.url)
        assert (ran.code, settings.load().endpoint("lone").model) == (0, "only")
        ran = endpoint("add", "pair", server.url)
        assert (ran.code, "the server has 2 models, --model names the one to ask: big, small" in ran.err) == (2, True)
        assert f"next: llmctl endpoint add --model big pair {server.url}" in ran.err
        assert "lists no models" in endpoint("add", "none", server.url).err
    ran = endpoint("add", "gone", server.url)
    assert (ran.code, "can't be asked for its models" in ran.err) == (5, True)
    assert f"next: llmctl endpoint add --model NAME gone {server.url}   adds it without asking" in ran.err
    assert [each.name for each in settings.load().endpoints] == ["lone"]


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://llm.example.internal/v1", "https://llm.example.internal/v1"),
        ("https://llm.example.internal/v1/", "https://llm.example.internal/v1"),
        ("http://localhost:8080", "http://localhost:8080/v1"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
        ("http://127.3.2.1", "http://127.3.2.1/v1"),
        ("http://0.0.0.0:8080", "http://127.0.0.1:8080/v1"),
        ("http://[::]:8080", "http://[::1]:8080/v1"),
    ],
)
def test_addresses(url: str, kept: str, endpoint: Any) -> None:
    ran = endpoint("add", "x", url, "--model", "m", "--json")
    assert ran.code == 0
    assert ran.document["data"]["url"] == settings.load().endpoint("x").url == kept


@pytest.mark.parametrize(
    "url",
    [
        "http://llm.example.internal",
        "llm.example.internal:8080",
        "http://192.168.1.5:8080/v1",
        "http://[fe80::1]:8080",
        "http://127.example.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
    ],
)
def test_plain_http_to_another_machine(url: str, endpoint: Any) -> None:
    ran = endpoint("add", "x", url, "--model", "m", "--json")
    assert ran.code == 11
    assert ran.document["data"] is None
    assert ran.document["error"]["code"] == "policy"
    assert "readable by anyone on the way" in ran.document["error"]["message"]
    assert "--force" in ran.document["error"]["hint"]
    assert not paths.config_file().exists()
    assert endpoint("add", "x", url, "--model", "m", "--force").code == 0
    added = settings.load().endpoint("x")
    assert (added.url.startswith("http://"), added.plain_http) == (True, True)
    assert "plain_http = true" in paths.config_file().read_text()
    assert endpoint("list", "--json").document["data"]["endpoints"][0]["plain_http"] is True


@pytest.mark.parametrize(
    ("url", "plain_http", "refused"),
    [
        ("http://llm.example.internal/v1", False, True),
        ("http://192.168.1.5:8080/v1", False, True),
        ("http://llm.example.internal/v1", True, False),
        ("https://llm.example.internal/v1", False, False),
        ("http://127.0.0.1:8080/v1", False, False),
        ("http://[::1]:8080/v1", False, False),
    ],
)
def test_plain_http_needs_the_consent_that_the_table_holds(url: str, plain_http: bool, refused: bool) -> None:
    """Also where the table was written by hand."""
    office = Endpoint("office", url, "m", plain_http=plain_http)
    if not refused:
        assert address_of(office).url == url
        return
    with pytest.raises(PolicyError, match="readable by anyone on the way") as caught:
        address_of(office)
    assert str(caught.value.hint).startswith(f"llmctl endpoint add --force --model m office {url} ")


def test_force_that_replaces_is_no_consent_to_plain_http(endpoint: Any) -> None:
    endpoint("add", *OFFICE)
    assert endpoint("add", *OFFICE, "--force").code == 0
    assert not settings.load().endpoint("office").plain_http
    assert "plain_http" not in paths.config_file().read_text()


@pytest.mark.parametrize(
    ("policy", "offline", "says"),
    [
        ("prefer-local", "", "What this machine can't answer goes to office."),
        ("prefer-remote", "", "Every prompt goes first to office."),
        ("remote-only", "", "Every prompt goes to office."),
        ("local-only", "", "or every prompt stays on this machine"),
        ("prefer-remote", "1", "llmctl is set to stay offline, so every prompt stays on this machine"),
    ],
)
def test_adding_says_what_it_means(
    policy: str, offline: str, says: str, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMCTL_POLICY", policy)
    monkeypatch.setenv("LLMCTL_OFFLINE", offline)
    assert says in endpoint("add", *OFFICE).err


def test_the_second_one_is_asked_by_name_only(endpoint: Any) -> None:
    endpoint("add", *OFFICE)
    assert "goes to office; lab comes after it." in endpoint("add", "lab", "https://lab", "-m", "m").err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("x", f"https://me:{KEY}@host", "-m", "m"), "can't carry a user name"),
        (("x", f"ftp://{KEY}@host", "-m", "m"), "can't carry a user name"),
        (("x", f"https://host/v1?api_key={KEY}", "-m", "m"), "a query"),
        (("x", "https://host", "-m", "m", "--key-env", KEY), "takes the name of an environment variable"),
        (("x", "https://host", "-m", "m", "--key-env", "hf_" + KEY[3:].replace("-", "")), "takes the name"),
        (("x", "https://host", "-m", "m", "--key-env", ""), "takes the name"),
        (("x", "https://host", "-m", "m", "--key-env", "MY KEY"), "takes the name"),
        (("x", "ftp://host", "-m", "m"), "is not an http or https address"),
        (("x", "https://", "-m", "m"), "is not an http or https address"),
        (("x", "https://host:99999", "-m", "m"), "is not a usable address"),
        (("x", "https://[::1", "-m", "m"), "is not a usable address"),
        (("x", "https://host", "-m", ""), "--model must name the model"),
        (("x", "https://host", "-m", "  "), "--model must name the model"),
        (("x", "https://host", "-m", "m", "--key-file", KEY), "there is none of that name"),
        (("x", "https://host", "-m", "m", "--key-cmd", KEY), "no such program is installed"),
        (("x", "https://host", "-m", "m", "--key-env", "A_KEY", "--key-file", "/dev/null"), "one can be given"),
        (("x", "https://host", "-m", "m", "--pin", "sha256:0"), "--pin must be sha256: and 64"),
        (("x", "http://127.0.0.1", "-m", "m", "--pin", PIN), "the address is not https"),
        (("a b", "https://host", "-m", "m"), "can't be a name"),
        (("-", "https://host", "-m", "m"), "can't be a name"),
        (("x" * 65, "https://host", "-m", "m"), "can't be a name"),
        (("../x", "https://host", "-m", "m"), "can't be a name"),
        (("", "https://host", "-m", "m"), "can't be a name"),
        (("x", "https://host", "-m", "m", "--ca-file", "/no/such/ca.pem"), "there is no file /no/such/ca.pem"),
    ],
)
def test_refused(arguments: tuple[str, ...], says: str, endpoint: Any) -> None:
    ran = endpoint("add", *arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert says in ran.err
    assert KEY not in ran.err
    assert KEY[3:].replace("-", "") not in ran.err
    assert not paths.config_file().exists()


def test_a_variable_in_small_letters_must_be_set(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most keys would pass for such a name."""
    assert endpoint("add", *OFFICE, "--key-env", "office_key").code == 2
    monkeypatch.setenv("office_key", KEY)
    assert endpoint("add", *OFFICE, "--key-env", "office_key").code == 0


def test_ca_file_is_kept_as_an_absolute_path(endpoint: Any, home: Path) -> None:
    (home / "ca.pem").write_text("PEM")
    assert endpoint("add", *OFFICE, "--ca-file", "ca.pem").code == 0
    assert settings.load().endpoint("office").trust.ca_file == str((home / "ca.pem").resolve())


def test_a_name_is_taken(endpoint: Any) -> None:
    endpoint("add", *OFFICE)
    ran = endpoint("add", "office", "https://other", "--model", "n")
    assert ran.code == 2
    assert "there is an endpoint named office already" in ran.err
    assert "next: llmctl endpoint add --force --model n office https://other/v1   replaces it" in ran.err
    assert settings.load().endpoint("office").model == "qwen3-32b"
    assert endpoint("add", "office", "https://other", "--model", "n", "--force").code == 0
    assert settings.load().endpoints == (Endpoint("office", "https://other/v1", "n"),)


def test_list(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET_KEY", KEY)
    endpoint("add", *OFFICE, "--key-env", "SET_KEY")
    endpoint("add", "lab", "https://lab.example.internal", "-m", "big", "--key-env", "MISSING_KEY")
    endpoint("add", "home", "http://127.0.0.1:8080", "-m", "small")
    ran = endpoint("list")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "office  qwen3-32b  https://llm.example.internal/v1  key in SET_KEY",
        "lab     big        https://lab.example.internal/v1  key in MISSING_KEY (not set)",
        "home    small      http://127.0.0.1:8080/v1         no key",
    ]
    assert ran.err == "Policy: prefer-local\n"
    as_json = endpoint("list", "--json")
    assert as_json.err == ""
    assert as_json.document["command"] == "endpoint list"
    assert as_json.document["data"]["policy"] == "prefer-local"
    assert [(row["name"], row["key_env"], row["key_set"]) for row in as_json.document["data"]["endpoints"]] == [
        ("office", "SET_KEY", True),
        ("lab", "MISSING_KEY", False),
        ("home", None, None),
    ]
    assert KEY not in ran.out + ran.err + as_json.out


def test_list_of_none(endpoint: Any) -> None:
    ran = endpoint("list")
    assert (ran.code, ran.out) == (0, "")
    assert "every prompt stays on this machine" in ran.err
    assert "llmctl endpoint add" in ran.err
    assert endpoint("list", "--json").document["data"] == {"endpoints": [], "policy": "local-only"}


def test_remove(endpoint: Any) -> None:
    endpoint("add", *OFFICE)
    endpoint("add", "a.b", "https://dotted", "-m", "m")
    ran = endpoint("remove", "a.b")
    assert (ran.code, ran.out) == (0, "")
    assert "Removed a.b. Policy: prefer-local." in ran.err
    ran = endpoint("remove", "office", "--json")
    assert ran.document["data"] == {"name": "office", "policy": "local-only"}
    assert settings.load().endpoints == ()


def test_remove_what_is_not_there(endpoint: Any) -> None:
    endpoint("add", *OFFICE)
    ran = endpoint("remove", "offices", "--json")
    assert ran.code == 4
    assert ran.document["error"]["code"] == "not_found"
    assert "offices (office)" in ran.document["error"]["message"]


@pytest.mark.parametrize("command", [("list",), ("remove", "x"), ("add", *OFFICE)])
def test_a_broken_configuration(command: tuple[str, ...], endpoint: Any) -> None:
    file = paths.config_file()
    file.parent.mkdir(parents=True)
    file.write_text("model = ")
    ran = endpoint(*command, "--json")
    assert ran.code == 10
    assert ran.document["error"]["code"] == "config"
    assert str(file) in ran.document["error"]["message"]
    assert file.read_text() == "model = "


def test_a_file_with_an_unknown_setting_is_not_written_to(endpoint: Any) -> None:
    file = paths.config_file()
    file.parent.mkdir(parents=True)
    file.write_text("modle = 'x'\n")
    assert endpoint("add", *OFFICE).code == 10
    assert file.read_text() == "modle = 'x'\n"


def test_a_policy_that_was_set_stays(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCTL_POLICY", "local-only")
    told = endpoint("add", *OFFICE).err
    assert "Policy: local-only" in told
    assert "llmctl run" not in told  # it would be refused
    assert "next: export LLMCTL_POLICY=prefer-local, or every prompt stays on this machine" in told
    monkeypatch.delenv("LLMCTL_POLICY")
    file = paths.config_file()
    file.write_text('policy = "local-only"\n' + file.read_text())
    told = endpoint("add", *OFFICE, "--force").err
    assert "llmctl run" not in told
    assert f'next: set policy = "prefer-local" in {file}, or every prompt' in told


@pytest.mark.parametrize("arguments", [("--help",), ("add", "--help"), ("list", "--help"), ("remove", "--help")])
def test_help(arguments: tuple[str, ...], endpoint: Any) -> None:
    ran = endpoint(*arguments)
    assert ran.code == 0
    assert "Usage: llmctl endpoint" in ran.out
    if len(arguments) > 1:
        assert "Exit codes: 0" in ran.out


def test_a_variable_that_is_not_set_is_named(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "OFFICE_KEY is not set yet: export OFFICE_KEY=…" in endpoint("add", *OFFICE, "--key-env", "OFFICE_KEY").err
    monkeypatch.setenv("OFFICE_KEY", KEY)
    assert "not set" not in endpoint("add", *OFFICE, "--key-env", "OFFICE_KEY", "--force").err
