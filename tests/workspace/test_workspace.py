"""``Workspace`` as a Python program uses it: what it looks at, and that a prompt leaves by the settings alone."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from llmctl import Answer, LlmctlError, NoFit, Plan, SilentListener, Workspace, paths
from llmctl.errors import NotFoundError, OfflineError, PolicyError, UsageError
from llmctl.types.endpoint import Endpoint, LeaveReason, Side
from llmctl.types.engine_name import EngineName
from llmctl.types.event import Text
from llmctl.types.policy import Policy
from llmctl.types.request import JsonSchema, Request, Sampling
from llmctl.workspace.ask import run_here
from llmctl.workspace.local_run import LocalRun
from tests.fakes.chat_server import DONE, ChatServer, event, stream

pytestmark = pytest.mark.usefixtures("measured")

HELLO = stream(event("Hello", finish="stop"), DONE)


def configure(server: ChatServer, policy: str) -> None:
    """A server of the user's, and a policy."""
    file = paths.config_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'policy = "{policy}"\n[endpoints.office]\nurl = "{server.url}"\nmodel = "m"\n')


class Warnings(SilentListener):
    def __init__(self) -> None:
        self.leaves: list[str] = []

    def leaving(self, endpoint: Endpoint, host: str, reason: str) -> None:
        self.leaves.append(f"{endpoint.name}: {reason}")


class Refusing(SilentListener):
    def leaving(self, endpoint: Endpoint, host: str, reason: str) -> None:
        raise RuntimeError("not there")


def test_each_is_looked_at_once() -> None:
    workspace = Workspace()
    assert workspace.probe() is workspace.machine
    settings = workspace.settings
    paths.config_file().parent.mkdir(parents=True, exist_ok=True)
    paths.config_file().write_text('task = "code"')
    assert workspace.settings is settings and settings.task == "chat"
    assert Workspace().settings.task == "code"


@pytest.mark.parametrize(
    ("model", "task", "words"),
    [
        ("no-such-model", None, "no-such-model"),
        ("./none.gguf", None, "does not exist"),
        (None, "sing", "no task named"),
    ],
)
def test_what_is_unknown_is_refused_before_the_machine_is_measured(
    model: str | None, task: str | None, words: str
) -> None:
    workspace = Workspace()
    with pytest.raises(LlmctlError, match=words):
        workspace.plan(model, task=task)
    assert "situation" not in vars(workspace)


@pytest.mark.parametrize(
    ("policy", "engine", "is_refused"),
    [
        (Policy.PREFER_LOCAL, None, True),
        (Policy.PREFER_REMOTE, None, False),
        (Policy.PREFER_LOCAL, EngineName.LLAMA_SERVER, False),
    ],
)
def test_a_schema_that_cannot_be_kept_is_refused_before_anything_is_loaded(
    policy: Policy, engine: EngineName | None, is_refused: bool
) -> None:
    request = Request.of("hi")
    request = replace(request, response_format=JsonSchema({"type": "object", "patternProperties": {}}))
    settings = replace(Workspace().settings, policy=policy, engine=engine)
    planned: list[LocalRun] = []

    def here() -> LocalRun:
        planned.append(LocalRun(NoFit("too large", (), None)))
        return planned[-1]

    with pytest.raises(UsageError, match=r"schema\.patternProperties") if is_refused else nullcontext():
        run_here(settings, request, here, local=False, endpoint=None)
    assert len(planned) == (not is_refused)


def test_a_plan_takes_what_the_command_takes() -> None:
    workspace = Workspace(machine="laptop-16gb")
    plan = workspace.plan("qwen3.5-4b:Q4_K_M", context=8192, kv_type="q8_0")
    assert isinstance(plan, Plan) and (plan.choice.context, plan.choice.kv_type) == (8192, "q8_0")
    small = workspace.plan(max_download_bytes=1)
    assert isinstance(small, NoFit) and small.reason
    more = Workspace(machine="laptop-16gb", ram_bytes=64 << 30)
    assert more.machine.memory.total_bytes == 64 << 30 > workspace.machine.memory.total_bytes


def test_the_settings_decide_where_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCTL_CONTEXT", "4096")
    plan = Workspace(machine="laptop-16gb").plan("qwen3.5-4b:Q4_K_M")
    assert isinstance(plan, Plan) and plan.choice.context == 4096


def test_no_download_without_a_yes() -> None:
    with pytest.raises(NotFoundError, match="to download, and nobody said yes"):
        Workspace().ask("hi")


def test_a_prompt_leaves_by_the_policy_and_the_listener_hears_it_first() -> None:
    listener = Warnings()
    with ChatServer(HELLO) as server:
        configure(server, "remote-only")
        answer = Workspace(listener).ask("hi", system="Be brief.")
    assert (answer.text, answer.route.side) == ("Hello", Side.REMOTE)
    assert answer.route.left_because is LeaveReason.REMOTE_ONLY
    assert listener.leaves == ["office: the policy is remote-only"]
    (request,) = server.requests
    assert answer.left_machine is not None and answer.left_machine.bytes == len(request.body)
    assert b"Be brief." in request.body


@pytest.mark.parametrize(
    ("policy", "asking", "error"),
    [
        ("local-only", {}, NotFoundError),
        ("prefer-local", {}, NotFoundError),  # a model fits, and would have to be fetched
        ("remote-only", {"local": True}, NotFoundError),
        ("prefer-remote", {"local": True}, NotFoundError),
        ("local-only", {"endpoint": "office"}, PolicyError),
        ("prefer-remote", {"endpoint": "nonesuch"}, NotFoundError),
    ],
)
def test_a_prompt_that_stays(policy: str, asking: dict[str, str | bool], error: type[LlmctlError]) -> None:
    with ChatServer(HELLO) as server:
        configure(server, policy)
        with pytest.raises(error):
            Workspace().ask("hi", **asking)  # type: ignore[arg-type]
    assert server.requests == []


def test_a_listener_that_raises_keeps_it_here() -> None:
    with ChatServer(HELLO) as server:
        configure(server, "remote-only")
        with pytest.raises(RuntimeError, match="not there"):
            Workspace(Refusing()).ask("hi")
    assert server.requests == []


def test_offline_fetches_nothing() -> None:
    with pytest.raises(OfflineError):
        Workspace(offline=True).pull("qwen3.5-4b:Q4_K_M")


def test_a_file_of_ones_own_answers(endless_file: Path) -> None:
    answer = Workspace().ask("Name a colour.", model=str(endless_file), max_tokens=4, context=512)
    assert answer.text and answer.left_machine is None
    assert answer.usage.completion_tokens is not None and answer.usage.completion_tokens <= 4
    assert answer.predicted is not None and answer.measured is not None


def test_a_stream_that_is_closed_ends_the_engine(endless_file: Path) -> None:
    stream = Workspace().stream("Count to one thousand.", model=str(endless_file), context=512)
    assert isinstance(next(stream), Text)
    before = engines()
    assert before
    stream.close()
    gone, alive = psutil.wait_procs(before, timeout=20)
    assert not alive and gone


def engines() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "llmctl.engine.llama_cpp.worker" in " ".join(child.cmdline())]


def test_a_request_with_parts_of_its_own(endless_file: Path) -> None:
    request = Request.of("Name a colour.", Sampling(max_tokens=3, temperature=0.0))
    *pieces, answer = Workspace().stream(request, model=str(endless_file), context=512)
    assert isinstance(answer, Answer)
    assert "".join(piece.text for piece in pieces if isinstance(piece, Text)).strip() == answer.text.strip()


def test_what_is_private_stays_here() -> None:
    with ChatServer(HELLO) as server:
        configure(server, "remote-only")
        with pytest.raises(PolicyError):
            Workspace().ask(replace(Request.of("hi"), private=True))
    assert server.requests == []


def test_an_argument_that_is_none_is_an_error() -> None:
    """A prompt must not leave for a ``local`` that was misspelt."""
    misspelt: dict[str, bool] = {"locl": True}
    workspace = Workspace()
    for method in (workspace.ask, workspace.stream):
        with pytest.raises(TypeError, match="locl"):
            method("hi", **misspelt)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="locl"):
        Workspace(machine="laptop-16gb").plan(**misspelt)  # type: ignore[arg-type]
