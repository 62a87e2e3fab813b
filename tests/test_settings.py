"""The table of settings: where each value comes from, what is refused, and how the user's file is rewritten."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmctl import paths, settings
from llmctl.errors import ConfigError, NotFoundError, ResourceError, UsageError
from llmctl.settings import SETTINGS, Setting, add_endpoint, load, remove_endpoint, set_values
from llmctl.types.endpoint import Endpoint, KeyVariable, Trust
from llmctl.types.engine_name import EngineName
from llmctl.types.policy import Policy
from tests.fakes.command import preloaded
from tests.fakes.preloaded import Forked
from tests.properties import examples

OFFICE = Endpoint("office", "https://llm.example.internal/v1", "qwen3-32b", KeyVariable("OFFICE_KEY"), Trust("/ca.pem"))
ENDPOINT = "[endpoints.office]\nurl = 'u'\nmodel = 'm'\n"
HOME = Endpoint("home", "http://127.0.0.1:8080/v1", "m")


@pytest.fixture
def user() -> Path:
    """The user's file, not there yet."""
    file = paths.config_file()
    file.parent.mkdir(parents=True)
    return file


@pytest.fixture
def project(home: Path) -> Path:
    """The project's file in the working directory, not there yet."""
    assert Path.cwd() == home
    return home / "llmctl.toml"


# For every setting: its default, three other values as TOML, and the same as they are loaded.
VALUES: dict[str, tuple[Any, list[str], list[Any]]] = {
    "model": (None, ['"a"', '"b:Q4_K_M"', '"c"'], ["a", "b:Q4_K_M", "c"]),
    "task": ("chat", ['"code"', '"translate"', '"x"'], ["code", "translate", "x"]),
    "context": (None, ["4096", "1", "9_000"], [4096, 1, 9000]),
    "threads": (None, ["4", "1", "2"], [4, 1, 2]),
    "min_tok_s": (None, ["4", "0.5", "0"], [4.0, 0.5, 0.0]),
    "policy": (
        Policy.LOCAL_ONLY,
        ['"prefer-remote"', '"remote-only"', '"prefer-local"'],
        [Policy.PREFER_REMOTE, Policy.REMOTE_ONLY, Policy.PREFER_LOCAL],
    ),
    "private_paths": ((), ['["/a"]', "", "/c"], [(Path("/a"),), (), (Path("/c"),)]),
    "max_first_token": (None, ['"10s"', "5", '"1m"'], [10.0, 5.0, 60.0]),
    "max_download": (None, ['"2GB"', '"500M"', "0"], [2_000_000_000, 500_000_000, 0]),
    "server_meanwhile": (False, ["true", "true", "true"], [True, True, True]),
    "hub_url": (
        "https://huggingface.co",
        ['"https://a"', '"http://127.0.0.1:1"', '"https://c/d"'],
        ["https://a", "http://127.0.0.1:1", "https://c/d"],
    ),
    "offline": (False, ["true", "true", "true"], [True, True, True]),
    "engine": (
        None,
        ['"llama-cpp"', '"llama-server"', '"llama-cpp"'],
        [EngineName.LLAMA_CPP, EngineName.LLAMA_SERVER, EngineName.LLAMA_CPP],
    ),
    "llama_server": (None, ['"/a"', '"/b c"', '"/c"'], [Path("/a"), Path("/b c"), Path("/c")]),
    "history": (True, ["false", "false", "false"], [False, False, False]),
    "keep_alive": (0.0, ['"30s"', '"5m"', '"1h"'], [30.0, 300.0, 3600.0]),
    "prompt_cache": (0, ['"2GB"', '"500M"', "0"], [2_000_000_000, 500_000_000, 0]),
    "chat_history": (False, ["true", "true", "true"], [True, True, True]),
    "markdown": (True, ["false", "false", "false"], [False, False, False]),
    "serve_port": (8484, ["1", "80", "65535"], [1, 80, 65535]),
    "serve_users": (None, ["1", "4", "16"], [1, 4, 16]),
    "serve_idle": (1800.0, ['"30s"', '"5m"', '"1h"'], [30.0, 300.0, 3600.0]),
    "serve_queue": (32, ["1", "4", "16"], [1, 4, 16]),
    "speculate": (True, ["false", "false", "false"], [False, False, False]),
}
ALL = pytest.mark.parametrize("setting", SETTINGS, ids=lambda one: one.name)


def test_the_table_of_this_test_is_whole() -> None:
    assert set(VALUES) == {setting.name for setting in SETTINGS}


@ALL
def test_precedence(setting: Setting, user: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variable over project file over user file over default, each added on top of the ones below it."""
    name = setting.name
    default, (in_user, in_project, in_variable), loaded = VALUES[name]

    def effective() -> Any:
        return getattr(load(), name)

    assert effective() == default
    user.write_text(f"{name} = {in_user}\n")
    assert effective() == loaded[0]
    if setting.project:
        project.write_text(f"{name} = {in_project}\n")
        assert effective() == loaded[1]
    for variable in reversed((setting.variable, *setting.also)):  # our own variable stands above those of others
        monkeypatch.setenv(variable, in_variable.strip('"'))
        assert effective() == loaded[2]
    monkeypatch.setenv(setting.variable, "")  # empty is not set
    if not setting.also:
        assert effective() == (loaded[1] if setting.project else loaded[0])


def test_our_variable_stands_above_the_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://theirs")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert (load().hub_url, load().offline) == ("https://theirs", True)
    monkeypatch.setenv("LLMCTL_HUB_URL", "https://ours")
    monkeypatch.setenv("LLMCTL_OFFLINE", "off")
    assert (load().hub_url, load().offline) == ("https://ours", False)


@pytest.mark.parametrize("value", ["0", "no", "FALSE", "off"])
def test_a_hub_variable_does_not_undo_offline(value: str, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tools are told can keep llmctl offline, but the network is the user's own to allow."""
    user.write_text("offline = true")
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert load().offline
    monkeypatch.setenv("LLMCTL_OFFLINE", value)
    assert not load().offline


@pytest.mark.parametrize("field", ["model", "ca_file"])
def test_what_is_not_utf8_is_not_written(field: str, user: Path) -> None:
    user.write_text("offline = true")
    text = os.fsdecode(b"caf\xe9")
    changed = replace(OFFICE, model=text) if field == "model" else replace(OFFICE, trust=Trust(text))
    with pytest.raises(UsageError, match=f"the endpoint's {field} is .*, which is not UTF-8"):
        add_endpoint(changed)
    assert user.read_text() == "offline = true"


def test_the_working_directory_may_be_gone(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load().task == "chat"


# What a project file may not do


@pytest.mark.parametrize(
    "content",
    [
        'policy = "prefer-remote"',
        'hub_url = "https://evil.example"',
        "offline = false",
        "threads = 1",
        '[endpoints.evil]\nurl = "https://evil.example"\nmodel = "m"',
        "nonsense = 1",
    ],
)
def test_a_checkout_cannot_decide_where_a_prompt_goes(content: str, project: Path) -> None:
    project.write_text(content)
    with pytest.raises(ConfigError, match=r"llmctl\.toml: \w+ can't be set by a project file") as caught:
        load()
    assert str(paths.config_file()) in str(caught.value.hint)


def test_another_directory_may_be_given(tmp_path: Path, project: Path) -> None:
    project.write_text('task = "here"')
    (tmp_path / "llmctl.toml").write_text('task = "there"')
    assert load().task == "here"
    assert load(tmp_path).task == "there"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "large"])
def test_what_is_no_configuration_file(kind: str, project: Path) -> None:
    """A checkout can hold links; nothing must hang or fill the memory."""
    if kind == "device":
        project.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(project)
    elif kind == "folder":
        project.mkdir()
    else:
        project.write_text("#" * 2_000_000)
    with pytest.raises(ConfigError, match=r"llmctl\.toml is (not a file|larger than)"):
        load()


# What a project file decides is kept apart


def test_what_a_project_file_decides_is_known(user: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().project is None
    user.write_text('model = "mine"\nmin_tok_s = 3\n')
    project.write_text('model = "theirs"\ntask = "code"\ncontext = 512\n')
    loaded = load()
    assert loaded.project is not None
    assert loaded.project.values == {"model": "theirs", "task": "code", "context": 512}
    assert str(loaded.project) == "llmctl.toml sets model = 'theirs', task = 'code', context = 512"
    own = loaded.without_project()
    assert (own.model, own.task, own.context, own.min_tok_s) == ("mine", "chat", None, 3.0)
    assert own.project is None
    monkeypatch.setenv("LLMCTL_MODEL", "from the shell")  # what the user's own variable decides is not the project's
    decided = load().project
    assert decided is not None
    assert decided.values == {"task": "code", "context": 512}
    project.write_text('model = "theirs"')
    assert load().project is None


# A working directory that is not the user's own


def _loop(project: Path) -> None:
    project.symlink_to(project)


def _dangling(project: Path) -> None:
    project.symlink_to("/nonexistent/llmctl.toml")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_loop, "llmctl.toml can't be read: Too many levels of symbolic links; it is passed over"),
        (_dangling, "llmctl.toml is a link to a file that is not there; it is passed over"),
    ],
)
def test_a_project_file_that_cannot_be_read_is_passed_over(
    make: Callable[[Path], None], says: str, user: Path, project: Path
) -> None:
    user.write_text('task = "code"')
    make(project)
    loaded = load()
    assert loaded.task == "code"
    assert loaded.warnings == (says,)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(project: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0)
    assert load(closed).warnings == (f"{closed}/llmctl.toml can't be read: Permission denied; it is passed over",)


# What is wrong in a file or variable


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("model = ", "not valid TOML"),
        ("model = 'a'\nmodel = 'b'", "not valid TOML"),
        (b"model = '\xff'", "not valid TOML"),
        ("a = " + "[" * 5000, "not valid TOML"),
        ("modle = 'a'", "no setting named modle"),
        ("[server]\nport = 1", "no setting named server"),
        ("model = 5", "model is 5, it must be a model's name"),
        ("model = ''", "model is '', it must be"),
        ("context = 'many'", "context is 'many', it must be a whole number of tokens"),
        ("context = 0", "context is 0, it must be a whole number of tokens, 1 to 2,147,483,647"),
        ("context = 4294967296", "context is 4294967296, it must be a whole number of tokens"),
        (f"context = {'9' * 5000}", "is not valid TOML: Exceeds the limit"),
        (f"context = 0x{'f' * 5000}", "context is a number of 20,000 bits, it must be a whole number of tokens"),
        (f"min_tok_s = 0x{'f' * 5000}", "min_tok_s is a number of 20,000 bits, it must be"),
        (f"context = {'[' * 5000}", "is not valid TOML: "),
        ('hub_url = "https://hub:99999"', "hub_url is 'https://hub:99999', it must be an http or https address"),
        ('hub_url = "https://hub:port"', "hub_url is 'https://hub:port', it must be an http or https address"),
        ('hub_url = "https://hub:0"', "hub_url is 'https://hub:0', it must be an http or https address"),
        ('hub_url = "https://[hub"', "hub_url is 'https://[hub', it must be an http or https address"),
        ('hub_url = "huggingface.co"', "hub_url is 'huggingface.co', it must be an http or https address"),
        ('hub_url = "http://"', "hub_url is 'http://', it must be an http or https address"),
        ("context = -4096", "context is -4096, it must be"),
        ("context = 4096.5", "context is 4096.5, it must be"),
        ("context = true", "context is True, it must be"),
        ("threads = 0", "threads is 0, it must be"),
        ("min_tok_s = -1", "min_tok_s is -1, it must be a number of tokens per second"),
        ("min_tok_s = nan", "min_tok_s is nan, it must be"),
        ("min_tok_s = inf", "min_tok_s is inf, it must be"),
        ("min_tok_s = [1]", "min_tok_s is [1], it must be"),
        ("policy = 'local'", "policy is 'local', it must be one of local-only, prefer-local, prefer-remote, remote-"),
        ("policy = 1", "policy is 1, it must be one of"),
        ("hub_url = 'huggingface.co'", "hub_url is 'huggingface.co', it must be an http or https address"),
        ("hub_url = 'file:///etc'", "it must be an http or https address"),
        ("hub_url = 'https://[x'", "it must be an http or https address"),
        ("offline = 'maybe'", "offline is 'maybe', it must be true or false"),
        ("offline = 1", "offline is 1, it must be true or false"),
        ("endpoints = 'office'", "endpoints must be tables like [endpoints.office]"),
        ("[[endpoints]]\nurl = 'u'", "endpoints must be tables"),
        ("[endpoints]\noffice = 'https://x'", "[endpoints.office] must be a table"),
        ("[endpoints.office]\nurl = 'https://x'", "[endpoints.office].model must be given"),
        ("[endpoints.office]\nurl = 'https://x'\nmodel = ''", "[endpoints.office].model must be text"),
        ("[endpoints.office]\nurl = 'u'\nmodel = 1", "[endpoints.office].model must be text"),
        (ENDPOINT + "key = 'sk-1'", "[endpoints.office].key must be left out: there is no such field"),
        (ENDPOINT + "name = 'x'", "[endpoints.office].name must be left out"),
        (ENDPOINT + "plain_http = 'yes'", "[endpoints.office].plain_http must be true or false"),
        (ENDPOINT + "key_env = 'A'\nkey_file = 'sk-1'", "key_file must be left out: the key is in key_env"),
        (ENDPOINT + "pin = 'sha256:0'", "[endpoints.office].pin must be sha256: and 64 hexadecimal digits"),
        (ENDPOINT + "context = 0", "[endpoints.office].context must be a whole number above 0"),
        (ENDPOINT + "first_token_s = -1", "[endpoints.office].first_token_s must be a number above 0"),
        (ENDPOINT + "between_s = nan", "[endpoints.office].between_s must be a number above 0"),
        (ENDPOINT + "priority = 'high'", "[endpoints.office].priority must be a whole number above 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(content: str | bytes, says: str, user: Path) -> None:
    user.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load()
    assert str(user) in caught.value.message
    assert says in caught.value.message
    assert "sk-1" not in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("LLMCTL_CONTEXT", "8k", "LLMCTL_CONTEXT is '8k', it must be a whole number of tokens"),
        ("LLMCTL_MIN_TOK_S", "nan", "LLMCTL_MIN_TOK_S is 'nan'"),
        ("LLMCTL_POLICY", "PREFER-LOCAL", "LLMCTL_POLICY is 'PREFER-LOCAL', it must be one of local-only"),
        ("HF_ENDPOINT", "hub", "HF_ENDPOINT is 'hub', it must be an http or https address"),
        ("HF_HUB_OFFLINE", "maybe", "HF_HUB_OFFLINE is 'maybe', it must be true or false"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        load()
    assert caught.value.message.startswith(says)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(user: Path) -> None:
    user.write_text("")
    user.chmod(0)
    with pytest.raises(ConfigError, match="can't be read: Permission denied"):
        load()


# Endpoints


def test_endpoints_keep_their_order_and_bring_the_policy() -> None:
    assert load().policy is Policy.LOCAL_ONLY
    add_endpoint(OFFICE)
    add_endpoint(HOME)
    assert load().endpoints == (OFFICE, HOME)
    assert load().policy is Policy.PREFER_LOCAL
    changed = Endpoint("office", "https://other/v1", "n")
    add_endpoint(changed)
    assert load().endpoints == (changed, HOME)  # replaced where it stood, nothing of the old one left
    remove_endpoint("office")
    assert load().endpoints == (HOME,)
    remove_endpoint("home")
    assert load().endpoints == ()
    assert load().policy is Policy.LOCAL_ONLY


def test_a_policy_that_was_set_is_not_changed_by_adding(user: Path) -> None:
    user.write_text('policy = "local-only"\n')
    add_endpoint(OFFICE)
    assert load().policy is Policy.LOCAL_ONLY


def test_endpoint_by_name() -> None:
    with pytest.raises(NotFoundError, match=r"no endpoint named x \(none is configured\)"):
        load().endpoint("x")
    add_endpoint(OFFICE)
    add_endpoint(HOME)
    assert load().endpoint("home") == HOME
    with pytest.raises(NotFoundError, match=r"no endpoint named x \(office, home\)") as caught:
        load().endpoint("x")
    assert caught.value.hint == "llmctl endpoint list"


@pytest.mark.parametrize("name", ["a.b", "1", "a-b_c.d", "url", "x" * 64, "endpoints"])
def test_any_name(name: str) -> None:
    add_endpoint(OFFICE)
    add_endpoint(Endpoint(name, "https://x/v1", "m"))
    assert load().endpoints == (OFFICE, Endpoint(name, "https://x/v1", "m"))
    remove_endpoint(name)
    assert load().endpoints == (OFFICE,)


@examples(100)
@given(
    url=st.text(min_size=1, max_size=20).filter(str.strip),
    model=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip),
)
def test_any_text(url: str, model: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Quotes, line ends and control characters come back as they were."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        added = Endpoint("x", url, model)
        add_endpoint(added)
        assert load().endpoints == (added,)


# Rewriting the user's file

WRITTEN = """\
# The configuration of this laptop
model = "qwen3.5-4b"   # fast enough

# our server
[endpoints.lab]        # third floor
url = "https://lab.example.internal/v1"  # behind the VPN
model = "big"
"""


def test_what_stands_there_stays(user: Path) -> None:
    user.write_text(WRITTEN)
    add_endpoint(OFFICE)
    text = user.read_text()
    assert text.startswith(WRITTEN)
    assert "[endpoints.office]" in text
    assert [one.name for one in load().endpoints] == ["lab", "office"]
    remove_endpoint("office")
    assert user.read_text().rstrip("\n") == WRITTEN.rstrip("\n")
    add_endpoint(Endpoint("lab", "https://new/v1", "small"))
    assert user.read_text().startswith('# The configuration of this laptop\nmodel = "qwen3.5-4b"   # fast enough\n')
    remove_endpoint("lab")
    assert load().model == "qwen3.5-4b"
    assert "# fast enough" in user.read_text()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n\n",
        "# only a comment",
        'model = "x"',
        '[endpoints.a]\nurl = "u"\nmodel = "m"',
        '[endpoints]\n[endpoints.a]\nurl = "u"\nmodel = "m"\n',
        '[endpoints]\na.url = "u"\na.model = "m"\n',
        '[endpoints."a"]\r\nurl = "u"\r\nmodel = "m"\r\n',
    ],
)
def test_ways_to_write_a_file(content: str, user: Path) -> None:
    user.write_bytes(content.encode())
    before = load()
    for name in ("b", "a", "x.y"):
        add_endpoint(Endpoint(name, "U", "M"))
        assert load().endpoint(name) == Endpoint(name, "U", "M")
        assert load().model == before.model
    for name in ("b", "x.y", "a"):
        remove_endpoint(name)
    assert load().endpoints == ()
    assert load().model == before.model


@pytest.mark.parametrize(
    "content",
    [
        'endpoints = {a = {url = "u", model = "m"}}\nmodel = "x"\n',
        'endpoints.a.url = "u"\nendpoints.a.model = "m"\nmodel = "x"\n',  # `model` would get into [endpoints.a]
    ],
)
@pytest.mark.parametrize("name", ["a", "b"])
def test_a_file_that_cannot_be_edited_safely_is_left_alone(content: str, name: str, user: Path) -> None:
    user.write_text(content)
    with pytest.raises(ConfigError, match=rf"{user} can't be edited.*\[endpoints\.{name}\]"):
        add_endpoint(Endpoint(name, "U", "M"))
    assert user.read_text() == content


def test_a_broken_file_is_left_alone(user: Path) -> None:
    user.write_text("model = ")
    with pytest.raises(ConfigError, match="not valid TOML"):
        add_endpoint(OFFICE)
    assert user.read_text() == "model = "


def test_only_the_owner_may_read_it(user: Path) -> None:
    user.write_text(WRITTEN)
    user.chmod(0o644)
    before = os.umask(0)
    try:
        assert add_endpoint(OFFICE) == user
    finally:
        os.umask(before)
    assert stat.S_IMODE(user.stat().st_mode) == 0o600


def test_a_new_folder_is_its_owners_too() -> None:
    file = add_endpoint(OFFICE)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_link_stays_a_link(user: Path, tmp_path: Path) -> None:
    dotfiles = tmp_path / "dotfiles"
    dotfiles.mkdir()
    (dotfiles / "llmctl.toml").write_text(WRITTEN)
    user.symlink_to(dotfiles / "llmctl.toml")
    add_endpoint(OFFICE)
    assert user.is_symlink()
    assert "[endpoints.office]" in (dotfiles / "llmctl.toml").read_text()


@pytest.mark.parametrize(
    ("function", "number", "kind"),
    [
        ("fsync", errno.EIO, ConfigError),
        ("fsync", errno.ENOSPC, ResourceError),
        ("replace", errno.EACCES, ConfigError),
        ("replace", errno.EROFS, ConfigError),
    ],
)
def test_the_old_file_is_whole_if_writing_fails(
    function: str, number: int, kind: type[Exception], user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.write_text(WRITTEN)

    def fail(*_: object, **__: object) -> None:
        assert len(list(user.parent.iterdir())) == 2, "the new one is written beside the old, on the same filesystem"
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(kind, match=f"{user} can't be written: {os.strerror(number)}"):
            add_endpoint(OFFICE)
    assert user.read_text() == WRITTEN
    assert list(user.parent.iterdir()) == [user]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(user: Path) -> None:
    user.parent.chmod(0o500)
    with pytest.raises(ConfigError, match="can't be written: Permission denied"):
        add_endpoint(OFFICE)


def test_a_file_stands_where_the_folder_should(home: Path) -> None:
    paths.config_file().parent.parent.write_text("")
    with pytest.raises(ConfigError, match="can't be"):
        add_endpoint(OFFICE)


def test_whoever_reads_meanwhile_sees_a_whole_file(user: Path) -> None:
    """The file is replaced, never written in place: a reader at any moment gets a valid one."""
    user.write_text(WRITTEN)
    done = threading.Event()
    broken: list[Exception] = []

    def read() -> None:
        while not done.is_set():
            try:
                assert load().endpoint("lab").model == "big"
            except Exception as error:
                broken.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(20):
            add_endpoint(Endpoint(f"e{number}", "https://x/v1", "m" * 2000))
    finally:
        done.set()
        reader.join()
    assert broken == []
    assert len(load().endpoints) == 21


# Two who change it at once

TOGETHER = 8


def ended_with(process: Forked) -> str:
    """What it said on stderr."""
    with process:
        return process.communicate(timeout=120)[1].decode()


def test_eight_additions_at_once_lose_nothing(user: Path) -> None:
    user.write_text(WRITTEN)
    before = len(load().endpoints)
    adding = [
        preloaded().start("endpoint", "add", f"e{number}", "https://x", "--model", "m") for number in range(TOGETHER)
    ]
    ended = [ended_with(process) for process in adding]
    assert [process.returncode for process in adding] == [0] * TOGETHER, ended
    assert {f"e{number}" for number in range(TOGETHER)} <= {one.name for one in load().endpoints}
    assert len(load().endpoints) == before + TOGETHER


def test_of_many_who_add_the_same_name_one_does(user: Path) -> None:
    adding = [
        preloaded().start("endpoint", "add", "office", "https://x", "--model", f"m{number}") for number in range(4)
    ]
    ended = [ended_with(process) for process in adding]
    assert sorted(process.wait() for process in adding) == [0, 2, 2, 2], ended
    (added,) = load().endpoints
    (winner,) = [number for number, process in enumerate(adding) if process.returncode == 0]
    assert added.model == f"m{winner}", "who said Added is in the file"


def test_a_lock_that_cannot_be_had(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user.write_text(WRITTEN)
    monkeypatch.setattr("llmctl.settings.file.LOCK_WAIT_S", 0.1)
    lock = paths.cache_dir() / "config.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock), pytest.raises(ResourceError, match="is being changed by another process"):
        add_endpoint(OFFICE)
    assert user.read_text() == WRITTEN
    add_endpoint(OFFICE)


def test_a_place_without_room_for_a_lock(home: Path) -> None:
    (home / "cache").write_text("a file where the folder should be")
    with pytest.raises(ResourceError, match="can't be written to: "):
        add_endpoint(OFFICE)


def test_every_setting_is_documented() -> None:
    for setting in SETTINGS:
        assert setting.help
        assert setting.expects
        assert setting.name in settings.Settings.__struct_fields__


def test_a_setting_that_is_none_is_answered_with_the_nearest(user: Path) -> None:
    user.write_text('polcy = "local-only"')
    with pytest.raises(ConfigError, match="there is no setting named polcy; did you mean policy"):
        load()


@pytest.mark.parametrize(
    ("before", "values", "after"),
    [
        ("", {"engine": "llama-cpp"}, 'engine = "llama-cpp"\n'),
        ('# mine\ntask = "code"\n', {"engine": None}, '# mine\ntask = "code"\n'),
        ('engine = "llama-server" # why\ntask = "code"\n', {"engine": None}, 'task = "code"\n'),
        ("[endpoints.a]\nurl = 'u'\nmodel = 'm'\n", {"task": "code"}, None),
    ],
)
def test_settings_are_written_beside_what_stands_there(
    user: Path, before: str, values: dict[str, str | None], after: str | None
) -> None:
    if before:
        user.write_text(before)
    assert set_values(values) == user
    assert after is None or user.read_text() == after
    assert stat.S_IMODE(user.stat().st_mode) == 0o600
    loaded = load()
    assert all(getattr(loaded, name) == value for name, value in values.items())
