"""For which reasons a prompt leaves, each as a real process against servers on loopback that count their connections;
what must not make it leave; and what asks nobody. The peers of all connections are seen from outside the process as
well, where there is strace."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmctl import catalogue, paths
from llmctl.store.layout import wheel_folder
from llmctl.types.endpoint import LeaveReason
from llmctl.types.model import SourceKind
from llmctl.types.receipt import Outcome
from llmctl.workspace import receipts
from tests.fakes.chat_server import DONE, ChatServer, event, status, stream
from tests.fakes.command import kill_engine_of, ran, spawn
from tests.fakes.connections import trace
from tests.fakes.faults import FAULTS, Certificates, served
from tests.fakes.gguf_file import Fill, llama_metadata, llama_tensors, model_shape, write, write_model
from tests.fakes.other_tools import in_hub_cache
from tests.fakes.preloaded import Preloaded

REPO, TINY, CONTEXT = "maker/tiny-GGUF", "tiny-Q4_0.gguf", 512
ENTRY = """
[[model]]
id = "tiny"
name = "Tiny 1B"
context = {context}
tasks = ["chat", "code"]
[model.sources]
facts = "https://model.example/card"
shape = "https://model.example/config.json"
[model.shape]
architecture = "llama"
n_layer = 2
n_embd = 64
n_head = 4
n_vocab = 1024
kv = [{{ layers = 2, heads = 2, head_dim = 16 }}]
[[model.file]]
quant = "Q4_0"
repo = "{repo}"
file = "{file}"
bytes = {bytes}
tensor_bytes = {bytes}
types = {{ Q4_0 = {bytes} }}
"""
SECRET = "the secret of the house"
LONG = "secret" * 150  # longer than the context: the little model's tokens are bytes
ANSWER = stream(event("Hello"), event(finish="stop"), DONE)


@dataclass(frozen=True)
class Ran:
    """One command: how it ended, and the peers of its connections as far as they were seen from outside."""

    code: int
    out: str
    err: str
    peers: list[str] = field(default_factory=list)

    @property
    def elsewhere(self) -> list[str]:
        return [peer for peer in self.peers if not peer.startswith(("127.0.0.1:", "::1:"))]

    @property
    def data(self) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(self.out)["data"]
        return made


@dataclass(frozen=True)
class Traced:
    """An interpreter whose commands are watched from outside, and the peers of their connections since it was asked."""

    interpreter: Preloaded
    peers: Callable[[], list[str]]


@dataclass(frozen=True)
class Kept:
    """Caches of the hub's, which no test changes: with the little model, with one that can't be loaded, and with none;
    and llmctl's own, with what it remembers of the machine and of them."""

    sound: Path
    broken: Path
    empty: Path
    cache: Path


@dataclass
class Place:
    """A machine with one little model, a server of the user's on loopback, and one that is only reached by a proxy."""

    home: Path
    near: ChatServer
    proxy: ChatServer
    kept: Kept
    traced: Traced
    monkeypatch: pytest.MonkeyPatch
    starter: Path | None = None

    @property
    def user_file(self) -> Path:
        return paths.config_file()

    def configure(self, *servers: str, lines: str = "") -> None:
        tables = {
            "near": f'[endpoints.near]\nurl = "{self.near.url}"\nmodel = "m"\n',
            "far": '[endpoints.far]\nurl = "https://llm.example.internal/v1"\nmodel = "m"\n',
            "open": '[endpoints.open]\nurl = "http://llm.example.internal/v1"\nmodel = "m"\n',
        }
        self.user_file.write_text(lines + "\n" + "".join(tables[name] for name in servers))

    def keep(self, hub: Path, *, context: int = CONTEXT) -> None:
        """``hub`` is the hub's cache from now on, and the catalogue has an entry for the model there."""
        self.monkeypatch.setenv("HF_HUB_CACHE", str(hub))
        catalogued(hub, self.user_file.parent / "models", context)

    def run(self, *arguments: str, **environment: str) -> Ran:
        return self.command("run", *arguments, **environment)

    def command(self, *arguments: str, **environment: str) -> Ran:
        done = ran(arguments, environment=environment, interpreter=self.traced.interpreter, timeout=200)
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode("utf-8", "replace"), self.traced.peers())


def little(file: Path) -> Path:
    return write_model(file, model_shape("tiny"))


def without_its_last_norm(file: Path) -> Path:
    """Sound by its header; llama.cpp refuses it for the tensor that is missing."""
    shape = model_shape("tiny")
    return write(file, llama_metadata(shape), llama_tensors(shape)[:-1], fill=Fill.RANDOM)


def catalogued(hub: Path, models: Path, context: int = CONTEXT) -> None:
    """Writes an entry for the model in ``hub``, if there is one."""
    models.mkdir(parents=True, exist_ok=True)
    for file in hub.rglob(TINY):
        entry = ENTRY.format(context=context, repo=REPO, file=TINY, bytes=file.stat().st_size)
        (models / "tiny.toml").write_text(entry)


@pytest.fixture(scope="module")
def kept(measured_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    home = tmp_path_factory.mktemp("kept")
    made = Kept(home / "sound", home / "broken", home / "empty", home / "cache" / "llmctl")
    shutil.copytree(measured_cache, made.cache)
    places = {f"XDG_{name.upper()}_HOME": str(home / name) for name in ("cache", "config", "data")}
    for hub, write_it in ((made.sound, little), (made.broken, without_its_last_norm)):
        in_hub_cache(hub, REPO, write_it(home / TINY))
        catalogued(hub, home / "config/llmctl/models")
        places |= {"HF_HUB_CACHE": str(hub), "HOME": str(home), "XDG_RUNTIME_DIR": str(home / "runtime")}
        ran(("run", "--local", "-n", "1", "hi"), environment=places)
    return made


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    prefix, seen = trace(tmp_path_factory.mktemp("traced"))
    with Preloaded(*prefix) as interpreter:
        yield Traced(interpreter, seen)


@pytest.fixture
def place(home: Path, kept: Kept, traced: Traced, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    shutil.copytree(kept.cache, home / "cache" / "llmctl")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example.internal")
    with ChatServer(ANSWER) as near, ChatServer(status(502)) as proxy:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://{proxy.host}")
        made = Place(home, near, proxy, kept, traced, monkeypatch)
        made.keep(kept.sound)
        made.configure("near", "far")
        yield made


# Why it leaves


def pinned(place: Place) -> Ran:
    return place.run("--json", "-e", "near", SECRET)


def prefer_remote(place: Place) -> Ran:
    place.configure("near", lines='policy = "prefer-remote"')
    return place.run("--json", SECRET)


def remote_only(place: Place) -> Ran:
    place.configure("near", lines='policy = "remote-only"')
    return place.run("--json", SECRET)


def nothing_fits(place: Place) -> Ran:
    return place.run("--json", "--min-tok-s", "999999999", SECRET)


def not_loaded(place: Place) -> Ran:
    place.keep(place.kept.broken)
    return place.run("--json", SECRET)


def prompt_too_long(place: Place) -> Ran:
    return place.run("--json", LONG)


def engine_failed(place: Place) -> Ran:
    """The engine is killed while it reads a prompt, which takes the starter a while."""
    known = catalogue.load(paths.profiles_dir() / "models").models
    (source,) = [
        artifact.source
        for model in known
        for artifact in model.artifacts
        if artifact.source.kind is SourceKind.PACKAGE_INDEX
    ]
    folder = wheel_folder(paths.data_dir() / "models", source.repo or "")
    folder.mkdir(parents=True)
    assert place.starter is not None
    shutil.copy(place.starter, folder)
    place.keep(place.kept.empty)
    with spawn("run", "--json", f"{SECRET} " * 1000) as process:
        kill_engine_of(process, after_s=0.8)
        out, err = process.communicate(timeout=200)
    return Ran(process.wait(), out.decode(), err.decode())


def limit_missed(place: Place) -> Ran:
    return place.run("--json", "--max-first-token", "0", SECRET)


def downloading(place: Place) -> Ran:
    """Nothing is here, and nothing answers where it would be fetched from."""
    place.keep(place.kept.empty)
    hub = {"HF_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    return place.run("--json", "--yes", SECRET, LLMCTL_SERVER_MEANWHILE="true", **hub)


LEAVES: Mapping[LeaveReason, Callable[[Place], Ran]] = {
    LeaveReason.PINNED: pinned,
    LeaveReason.PREFER_REMOTE: prefer_remote,
    LeaveReason.REMOTE_ONLY: remote_only,
    LeaveReason.NOTHING_FITS: nothing_fits,
    LeaveReason.NOT_LOADED: not_loaded,
    LeaveReason.ENGINE_FAILED: engine_failed,
    LeaveReason.PROMPT_TOO_LONG: prompt_too_long,
    LeaveReason.LIMIT_MISSED: limit_missed,
    LeaveReason.DOWNLOADING: downloading,
}


def left(ran: Ran, place: Place, reason: LeaveReason) -> None:
    """It left once, to the one server, for that reason, and said so."""
    assert ran.code == 0, ran.err
    assert ran.data["route"]["left_because"] == reason
    assert ran.data["route"]["endpoint"] == "near"
    assert ran.data["text"] == "Hello"
    assert f"→ near ({place.near.host}, m): {ran.data['route']['reason']}" in ran.err
    assert place.near.connections == len(place.near.requests) == 1
    assert SECRET.split()[1].encode() in place.near.requests[0].body
    assert place.proxy.connections == 0
    assert ran.elsewhere == []
    assert not ran.peers or place.near.host in ran.peers, "what watches from outside must see it"
    (receipt,) = receipts.read().receipts
    assert (receipt.endpoint, receipt.left_because, receipt.outcome) == ("near", reason, Outcome.ANSWERED)
    assert receipt.bytes == ran.data["left_machine"]["bytes"]


@pytest.mark.parametrize("reason", LeaveReason)
def test_it_leaves_for_this_reason(reason: LeaveReason, place: Place, starter_file: Path) -> None:
    place.starter = starter_file
    left(LEAVES[reason](place), place, reason)


# What must not make it leave


@dataclass(frozen=True)
class Stays:
    """A situation: how it is called, which files say what, the exit code, and words that a person sees. ``broken``: the
    model in the hub's cache can't be loaded."""

    name: str
    code: int
    says: tuple[str, ...]
    arguments: tuple[str, ...] = (SECRET,)
    environment: Mapping[str, str] = field(default_factory=dict)
    project: str = ""
    user: str = ""
    servers: tuple[str, ...] = ("near", "far")
    broken: bool = False


OTHER_SERVER = '[endpoints.x]\nurl = "https://x"\nmodel = "m"'
REFUSED = "broken.gguf can't be loaded: a tensor is missing"
LOCAL_ONLY, REMOTE_ONLY = 'policy = "local-only"', 'policy = "remote-only"'
PREFER_REMOTE = 'policy = "prefer-remote"'
NOTHING_SENT = "so nothing was sent to near"
OFFLINE = "is on another machine, and llmctl is set to stay offline"
FILE, ALL_PRIVATE = ("-f", "llmctl.toml", SECRET), 'private_paths = ["."]'
CODE_STAYS = 'policies = {code = "local-only"}'
STAY = (
    # a project file
    Stays("project floor", 3, ("llmctl.toml sets min_tok_s = 1000000000.0", NOTHING_SENT), project="min_tok_s = 1e9"),
    Stays("project context", 3, ("llmctl.toml sets context = 2000000000",), project="context = 2000000000"),
    Stays("project small context", 2, ("llmctl.toml sets context = 256",), ("x" * 400,), project="context = 256"),
    Stays("project model", 4, ("nonsense", "llmctl.toml: model = 'nonsense'"), project="model = 'nonsense'"),
    Stays("project file", 6, (REFUSED, "llmctl.toml: model = './broken.gguf'"), project="model = './broken.gguf'"),
    Stays("project task", 10, ("nonsense",), project="task = 'nonsense'"),
    Stays("project task without answers", 2, ("embed writes no answer",), project="task = 'embed'"),
    Stays("project model that breaks", 8, ("llmctl.toml", NOTHING_SENT), project="model = 'tiny'", broken=True),
    Stays("project and broken model", 0, ("→ near",), project="task = 'code'", broken=True),
    Stays("project endpoint", 10, ("endpoints can't be set",), project=OTHER_SERVER),
    # a model that is named
    Stays("-m broken file", 6, (REFUSED,), ("-m", "./broken.gguf", SECRET)),
    Stays("-m no file", 4, ("none.gguf does not exist",), ("-m", "./none.gguf", SECRET)),
    Stays("-m no model", 4, ("nonsense",), ("-m", "nonsense", SECRET)),
    Stays("-m broken model", 8, ("-m tiny names what is to answer",), ("-m", "tiny", SECRET), broken=True),
    Stays("-m long prompt", 2, ("-m tiny names what is to answer",), ("-m", "tiny", LONG)),
    Stays("-m context", 3, ("-m tiny names what is to answer",), ("-m", "tiny", "--context", "100000", SECRET)),
    Stays("-c long prompt", 2, ("--context 256 is what was asked for",), ("--context", "256", "x" * 400)),
    Stays("variable broken file", 6, ("LLMCTL_MODEL=./broken.gguf",), environment={"LLMCTL_MODEL": "./broken.gguf"}),
    Stays("variable no model", 4, ("LLMCTL_MODEL=nonsense",), environment={"LLMCTL_MODEL": "nonsense"}),
    Stays("setting broken file", 6, ("the setting model = './broken.gguf'",), user="model = './broken.gguf'"),
    Stays("setting no model", 4, ("the setting model = 'nonsense'",), user="model = 'nonsense'"),
    Stays("setting from home", 6, ("the setting model = '~/broken.gguf'",), user="model = '~/broken.gguf'"),
    Stays("-m empty", 2, ("--model was given an empty name",), ("-m", "", SECRET)),
    Stays("-e empty", 2, ("--endpoint was given an empty name",), ("-e", "", SECRET)),
    Stays("--local and -e empty", 2, ("exclude each other",), ("--local", "-e", "", SECRET)),
    Stays("too many threads", 2, ("--threads is 100000, this processor runs",), ("-t", "100000", SECRET)),
    Stays(
        "setting of too many threads", 0, ("the setting threads is 2147483647", "· local ·"), ("-n", "4", SECRET),
        user="threads = 2147483647",
    ),
    Stays(
        "hub's tools are not offline", 5, (OFFLINE,), ("-e", "far", SECRET), {"HF_HUB_OFFLINE": "0"},
        user="offline = true", servers=("far",),
    ),
    Stays("unknown task", 2, ("nonsense",), ("--task", "nonsense", SECRET)),
    # offline
    *(
        Stays(
            f"offline {how} {what}", code, says, arguments, environment, "", f"{user}\n{policy}", ("far",), broken
        )
        for how, flag, environment, user in (
            ("flag", ("--offline",), {}, ""),
            ("variable", (), {"LLMCTL_OFFLINE": "1"}, ""),
            ("hub's variable", (), {"HF_HUB_OFFLINE": "1"}, ""),
            ("setting", (), {}, "offline = true"),
        )
        for what, code, says, arguments, policy, broken in (
            ("pinned", 5, (f"far (llm.example.internal) {OFFLINE}",), (*flag, "-e", "far", SECRET), "", False),
            ("remote-only", 5, (OFFLINE,), (*flag, SECRET), REMOTE_ONLY, False),
            ("prefer-remote", 0, ("· local ·",), (*flag, "-n", "4", SECRET), 'policy = "prefer-remote"', False),
            ("broken model", 8, ("can't load",), (*flag, SECRET), "", True),
        )
        if flag or what == "pinned"  # however it is said, it is one setting
    ),
    # --local and local-only
    Stays("--local, broken", 8, ("can't load",), ("--local", SECRET), broken=True),
    Stays("--local, nothing fits", 3, ("no model fits",), ("--local", SECRET), {"LLMCTL_MIN_TOK_S": "1e9"}),
    Stays("--local, remote-only", 0, ("· local ·",), ("--local", "-n", "4", SECRET), user=REMOTE_ONLY),
    Stays("local-only, broken", 8, ("can't load",), user=LOCAL_ONLY, broken=True),
    Stays("local-only, pinned", 11, ("the policy is local-only",), ("-e", "near", SECRET), user=LOCAL_ONLY),
    # --private
    Stays("--private, broken", 8, ("can't load",), ("--private", SECRET), broken=True),
    Stays("--private, nothing fits", 3, ("no model fits",), ("--private", SECRET), {"LLMCTL_MIN_TOK_S": "1e9"}),
    Stays("--private, long prompt", 2, ("local context is",), ("--private", LONG)),
    Stays("--private, pinned", 11, ("the prompt is private",), ("--private", "-e", "near", SECRET)),
    Stays("--private, remote-only", 11, ("the prompt is private",), ("--private", SECRET), user=REMOTE_ONLY),
    Stays("--private, prefer-remote", 0, ("· local ·",), ("--private", "-n", "4", SECRET), user=PREFER_REMOTE),
    Stays("--private --local", 0, ("· local ·",), ("--private", "--local", "-n", "4", SECRET), user=REMOTE_ONLY),
    # files under private_paths, and policies of a project, a task and a call
    Stays("a private file", 11, ("under private_paths", "is private"), FILE, user=REMOTE_ONLY, project=ALL_PRIVATE),
    Stays("a private file, pinned", 11, ("is private",), (*FILE, "-e", "near"), project=ALL_PRIVATE),
    Stays("a private file, --remote", 11, ("is private",), (*FILE, "--remote"), project=ALL_PRIVATE),
    Stays("--remote, local-only", 11, ("the policy is local-only",), ("--remote", SECRET), user=LOCAL_ONLY),
    Stays("--remote --private", 11, ("the prompt is private",), ("--remote", "--private", SECRET)),
    Stays("--remote --local", 2, ("exclude each other",), ("--remote", "--local", SECRET)),
    Stays("project policy", 11, ("the policy is local-only",), ("-e", "near", SECRET), project=LOCAL_ONLY),
    Stays("task policy", 11, ("the policy is local-only",), ("-e", "near", "--task", "code", SECRET), user=CODE_STAYS),
    # limits of the user's own
    Stays("limit, -m", 0, ("· local ·",), ("-m", "tiny", "--max-first-token", "0", "-n", "4", SECRET)),
    Stays(
        "limit, local-only", 0, ("· local ·",), ("-n", "4", SECRET), user=f'max_first_token = 0\n{LOCAL_ONLY}'
    ),
    Stays("limit of a project", 10, ("max_first_token can't be set",), project='max_first_token = 0'),
    Stays("limit that is none", 2, ("--max-download is 'much'",), ("--max-download", "much", SECRET)),
    # before anybody said yes
    Stays("not here", 4, ("nobody said yes",), ("-m", "qwen3.5-4b", SECRET), user=LOCAL_ONLY),
    Stays("not here, with an endpoint", 4, ("nobody said yes",), ("-m", "qwen3.5-4b", SECRET)),
    # plain http that nobody has agreed to
    Stays("plain http", 11, ("readable by anyone on the way",), ("-e", "open", SECRET), servers=("open",)),
    Stays("unknown endpoint", 4, ("there is no endpoint named nowhere",), ("-e", "nowhere", SECRET)),
)  # fmt: skip


@pytest.mark.parametrize("situation", STAY, ids=lambda one: one.name)
def test_it_stays(situation: Stays, place: Place) -> None:
    place.keep(place.kept.broken if situation.broken else place.kept.sound)
    without_its_last_norm(place.home / "broken.gguf")
    place.configure(*situation.servers, lines=situation.user)
    if situation.project:
        (place.home / "llmctl.toml").write_text(situation.project)
    ran = place.run(*situation.arguments, **situation.environment)
    assert ran.code == situation.code, ran.err
    for words in situation.says:
        assert words in ran.err
    assert "Traceback" not in ran.err
    if "→ near" not in situation.says:
        assert "→" not in ran.err
        assert place.near.connections == 0
        assert receipts.read().receipts == ()
    assert place.proxy.connections == 0
    assert ran.elsewhere == []


@pytest.mark.parametrize(
    ("policy", "arguments", "code"),
    [
        (LOCAL_ONLY, (), 8),
        (LOCAL_ONLY, ("-e", "f3"), 11),
        ('policy = "prefer-local"', ("--private",), 8),
        (REMOTE_ONLY, ("--private",), 11),
    ],
)
def test_it_stays_whatever_the_servers_are_like(
    policy: str, arguments: tuple[str, ...], code: int, place: Place, tmp_path: Path
) -> None:
    """Every server of the table of faults stands there at once, and the model here can't be loaded."""
    place.keep(place.kept.broken)
    certificates = Certificates.made(tmp_path)
    with ExitStack() as open_servers:
        offices = [open_servers.enter_context(served(fault, certificates, place.near.url)) for fault in FAULTS]
        tables = [office.table.replace("office", f"f{number}", 1) for number, office in enumerate(offices)]
        place.user_file.write_text("\n".join((policy, *tables, FAR_AWAY)))
        ran = place.run(*arguments, SECRET)
        assert (ran.code, "→" in ran.err) == (code, False), ran.err
        assert not any(office.server.connections for office in offices if office.server is not None)
    assert (place.near.connections, place.proxy.connections, ran.elsewhere) == (0, 0, [])
    assert receipts.read().receipts == ()


FAR_AWAY = '[endpoints.away]\nurl = "https://192.0.2.1/v1"\nmodel = "m"\nconnect_s = 0.1\n'


def test_a_connection_to_another_machine_is_seen(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts connections from outside the process sees one, where there is one."""
    monkeypatch.setenv("NO_PROXY", "192.0.2.1")
    place.user_file.write_text(FAR_AWAY)
    ran = place.run("-e", "away", SECRET)
    assert ran.code == 5, ran.err
    if not ran.peers and not ran.elsewhere:
        pytest.skip("no strace here")
    assert ran.elsewhere and set(ran.elsewhere) == {"192.0.2.1:443"}


@pytest.mark.parametrize("continues", [True, False])
def test_the_engine_is_killed_in_the_middle_of_an_answer(
    continues: bool, place: Place, endless_file: Path, tmp_path: Path
) -> None:
    """Where the user lets the server go on with it, it does; else the answer ends, and what there is of it stays."""
    in_hub_cache(tmp_path / "endless", REPO, endless_file, name=TINY)
    place.keep(tmp_path / "endless", context=32_768)  # longer than the test looks away
    place.configure("near")
    if continues:
        place.user_file.write_text(place.user_file.read_text() + "continues = true\n")
    with spawn("run", "Count.") as process:
        assert process.stdout is not None
        read = process.stdout.read(8)
        kill_engine_of(process, after_s=0.0)
        out, err = process.communicate(timeout=100)
    text = (read + out).decode()
    assert "Traceback" not in err.decode() and text.startswith(" w0 w1")
    if continues:
        assert process.wait() == 0, err
        sent = json.loads(place.near.requests[0].body)["messages"][-1]
        assert sent["role"] == "assistant" and text == f"{sent['content']}Hello\n"
        assert f"→ near ({place.near.host}, m): the engine" in err.decode()
    else:
        assert process.wait() == 8 and place.near.connections == 0


def test_a_path_that_is_not_utf8(place: Place) -> None:
    odd = os.fsdecode(b"caf\xe9.gguf")
    little(place.home / odd)
    ran = place.run("-m", f"./{odd}", "-n", "4", SECRET)
    assert ran.code == 0, ran.err
    assert (place.near.connections, place.proxy.connections, ran.elsewhere) == (0, 0, [])
    assert "Traceback" not in ran.err


def test_offline_still_asks_a_server_on_this_machine(place: Place) -> None:
    ran = place.run("--json", "--offline", SECRET, LLMCTL_MIN_TOK_S="1e9")
    left(ran, place, LeaveReason.NOTHING_FITS)


def test_the_users_own_settings_still_hand_over_beside_a_project_file(place: Place) -> None:
    """A project file stops nothing that would have happened without it."""
    (place.home / "llmctl.toml").write_text("min_tok_s = 1e9")
    left(place.run("--json", SECRET, LLMCTL_MIN_TOK_S="2e9"), place, LeaveReason.NOTHING_FITS)


@pytest.mark.parametrize(
    ("reason", "arguments", "environment"),
    [
        (LeaveReason.PROMPT_TOO_LONG, ("x" * 400 + SECRET,), {"LLMCTL_CONTEXT": "256"}),
        (LeaveReason.NOTHING_FITS, ("--context", "100000000", SECRET), {}),
        (LeaveReason.PREFER_REMOTE, (SECRET,), {"LLMCTL_POLICY": "prefer-remote"}),
        (LeaveReason.REMOTE_ONLY, (SECRET,), {"LLMCTL_POLICY": "remote-only"}),
        (LeaveReason.PINNED, ("-e", "near", "-m", "tiny", SECRET), {}),
    ],
)
def test_the_users_own_will_beside_a_project_file_that_says_the_same(
    reason: LeaveReason, arguments: tuple[str, ...], environment: Mapping[str, str], place: Place
) -> None:
    """Variables and flags are the user's, and so is a policy; what a project file says changes nothing about it."""
    (place.home / "llmctl.toml").write_text("context = 300\nmin_tok_s = 1")
    left(place.run("--json", *arguments, **environment), place, reason)


# What asks nobody


ADDRESS = ("https://files.example.internal/x.gguf", "--sha256", "0" * 64)


ASK_OTHERS = (
    (("pull", "qwen3.5-4b"), 5),
    (("pull", "maker/other-GGUF:Q4_0"), 5),
    (("pull", *ADDRESS), 5),
    (("plan", "maker/other-GGUF"), 5),
    (("models", "refresh", "--yes"), 5),
    (("run", "--yes", "-m", "qwen3.5-4b", SECRET), 5),
    (("run", "-m", "maker/other-GGUF", SECRET), 4),
    (("doctor",), 0),
    (("doctor", "--network"), 0),
)


@pytest.mark.parametrize(
    ("arguments", "code", "variable"),
    [*((*row, "LLMCTL_OFFLINE") for row in ASK_OTHERS), (*ASK_OTHERS[0], "HF_HUB_OFFLINE")],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_offline_connects_to_no_other_machine(
    arguments: tuple[str, ...], code: int, variable: str, place: Place
) -> None:
    ran = place.command(*arguments, **{variable: "1"})
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err
    assert (place.proxy.connections, ran.elsewhere) == (0, [])
    assert place.near.connections == (1 if arguments[0] == "doctor" else 0), "the one on this machine may be asked"


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan",),
        ("plan", "tiny"),
        ("plan", "qwen3.5-4b"),
        ("models", "list"),
        ("models", "list", "--all"),
        ("models", "search", "italian"),
        ("models", "show", "tiny"),
        ("models", "prune"),
        ("endpoint", "list"),
        ("endpoint", "add", "lab", "https://lab.example.internal", "--model", "m"),
        ("completion", "bash"),
        ("doctor",),
        ("bench", "-m", "none.gguf"),
        ("run", SECRET, "-m", "qwen3.5-4b"),
        ("route", SECRET),
        ("route", SECRET, "-e", "near"),
        ("run", SECRET, "--dry-run", "--yes"),
        ("receipts",),
    ],
    ids=" ".join,
)
def test_nobody_is_asked_before_somebody_said_yes(arguments: tuple[str, ...], place: Place) -> None:
    place.configure("near", "far", lines=LOCAL_ONLY)
    ran = place.command(*arguments)
    assert "Traceback" not in ran.err
    assert (place.near.connections, place.proxy.connections, ran.elsewhere) == (0, 0, [])
