"""A model in its original weights behind the gateway, by a program that behaves like vLLM: real processes and sockets.
vLLM itself takes 3 GB of packages: ``tests/bench/vllm_itself.py`` asks it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import pytest
import requests
from msgspec.structs import replace

from llmctl import paths
from llmctl.engine.vllm.start import start
from llmctl.errors import EngineDiedError, NotFoundError, NothingFitsError, UsageError
from llmctl.settings import load
from llmctl.types.listener import SilentListener
from llmctl.types.serve_engine import ServeEngine
from llmctl.workspace import serve, serve_original, situation
from llmctl.workspace.deployment import cluster
from llmctl.workspace.deployment.cluster import ClusterAsked
from llmctl.workspace.deployment.program import ClusterDeployment
from llmctl.workspace.serve_original import OriginalModel
from llmctl.workspace.serve_plan import ServeAsked, ServePlan, planned
from tests.fakes import gateway
from tests.fakes.vllm import fake_vllm, started
from tests.workspace.test_cluster import CARDS

MODEL, REPO, COMMIT = "qwen3-8b", "Qwen/Qwen3-8B", "0" * 40
SECRETS = {"HF_TOKEN": "hf_secret", "OPENAI_API_KEY": "sk-secret", "VLLM_API_KEY": "secret", "VLLM_USE_V1": "0"}
ASKED = ServeAsked((MODEL,), engine=ServeEngine.VLLM)


@pytest.fixture
def deployment(tmp_path: Path) -> ClusterDeployment:
    """On two GPUs, as this machine's own plan would be if it had them."""
    (tmp_path / "machine.toml").write_text(CARDS, "utf-8")
    return cluster.planned(SilentListener(), ClusterAsked(MODEL, 4, machine=str(tmp_path / "machine.toml")))


def model(deployment: ClusterDeployment, program: Path) -> OriginalModel:
    about = situation.shelf(SilentListener(), loaded=load()).candidates(MODEL)[0].model
    return OriginalModel(deployment, str(program), about, ("chat",))


@contextmanager
def serving(original: OriginalModel) -> Iterator[str]:
    plan = ServePlan((original,), {"chat": original.name}, "chat", {}, True)
    with (
        serve.served_models(plan, load(), SilentListener(), queue=8, idle_s=None) as models,
        gateway.serving(models) as url,
    ):
        yield url


def chat(url: str, **fields: Any) -> requests.Response:
    body = {"messages": [{"role": "user", "content": "hi"}], **fields}
    return requests.post(f"{url}/v1/chat/completions", json=body, timeout=30)


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def is_gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_it_answers_in_every_shape(
    tmp_path: Path, deployment: ClusterDeployment, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    program = fake_vllm(tmp_path / "bin")
    with serving(model(deployment, program)) as url:
        answer = chat(url, model="auto")
        assert answer.json()["choices"][0]["message"]["content"] == "By vLLM."
        assert (answer.json()["model"], chat(url, model=REPO).status_code) == (MODEL, 200)
        assert chat(url, stream=True).text.endswith("[DONE]\n\n")
        client = anthropic.Anthropic(base_url=url, api_key="any", max_retries=0)
        said: Any = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
        assert client.messages.create(max_tokens=9, **said).content[0].text == "By vLLM."
        assert client.messages.count_tokens(**said).input_tokens == 7
        (listed,) = requests.get(f"{url}/v1/models", timeout=30).json()["data"]
        assert (listed["id"], listed["context_length"], listed["state"]) == (MODEL, 8192, "loaded")
        begun = started(program)
    assert begun["argv"][:2] == ["serve", REPO] and "--max-model-len=8192" in begun["argv"]
    assert not [word for word in begun["argv"] if word.startswith(("--host", "--port", "--api-key"))]
    assert "secret" not in str(begun["environment"]) and begun["environment"]["HF_HUB_OFFLINE"] == "1"
    assert within(10, lambda: is_gone(begun["pid"]) and is_gone(begun["helper"]))
    (socket,) = [Path(word.removeprefix("--uds=")) for word in begun["argv"] if word.startswith("--uds=")]
    assert within(10, lambda: not socket.parent.exists())


def test_its_socket_is_its_users_alone(tmp_path: Path, deployment: ClusterDeployment, home: Path) -> None:
    engine = start(model(deployment, fake_vllm(tmp_path / "bin")).job)
    try:
        assert engine.socket.parent.stat().st_mode & 0o077 == 0
    finally:
        engine.end()
    assert not engine.is_alive and not engine.socket.parent.exists()


def test_one_that_cannot_load_says_why(tmp_path: Path, deployment: ClusterDeployment, home: Path) -> None:
    with pytest.raises(EngineDiedError, match="vLLM died: exit code 1 ValueError: No available memory"):
        start(model(deployment, fake_vllm(tmp_path / "bin", dies="load")).job)


def test_one_that_dies_while_it_answers_is_loaded_again(
    tmp_path: Path, deployment: ClusterDeployment, home: Path
) -> None:
    program = fake_vllm(tmp_path / "bin", dies="answers")
    with serving(model(deployment, program)) as url:
        assert "vLLM died" in chat(url, stream=True).text
        first = started(program)
        assert is_gone(first["helper"])
        assert chat(url).status_code == 200
        assert started(program)["pid"] != first["pid"]


def test_nothing_of_it_outlives_who_started_it(tmp_path: Path, deployment: ClusterDeployment, home: Path) -> None:
    """The gateway is killed: its end of the pipe closes, whatever it has left to do."""
    program = fake_vllm(tmp_path / "bin")
    job = model(deployment, program).job
    if (child := os.fork()) == 0:
        start(job)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    begun = started(program)
    assert within(20, lambda: is_gone(begun["pid"]) and is_gone(begun["helper"]))


@pytest.mark.parametrize(
    ("asked", "has_program", "says", "hint"),
    [
        ({}, False, "needs vLLM", "pip install vllm"),
        ({"models": ("a", "b")}, True, "serves one model", "llmctl models list"),
        ({"models": (), "tasks": ("chat",)}, True, "serves one model", "llmctl models list"),
        ({}, True, "takes GPUs of NVIDIA or AMD", "--print vllm"),
    ],
    ids=["no vLLM", "two models", "a task", "no GPU"],
)
def test_where_it_can_not_be_had(
    tmp_path: Path,
    home: Path,
    measured: None,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    has_program: bool,
    says: str,
    hint: str,
) -> None:
    if has_program:
        fake_vllm(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(UsageError, match=says) as raised:
        planned(SilentListener(), load(), replace(ASKED, **asked))
    assert raised.value.hint is not None and hint in raised.value.hint


def test_more_than_this_machine_has(
    tmp_path: Path, deployment: ClusterDeployment, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vllm(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    wide = replace(deployment, spread=replace(deployment.spread, pipeline=2))
    monkeypatch.setattr(cluster, "planned", lambda listener, asked: wide)
    with pytest.raises(NothingFitsError, match="takes more GPUs than this machine has"):
        planned(SilentListener(), load(), ASKED)


def test_weights_that_are_not_here_are_not_fetched(
    tmp_path: Path, deployment: ClusterDeployment, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vllm(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(cluster, "planned", lambda listener, asked: deployment)
    with pytest.raises(NotFoundError, match="are not on this machine") as raised:
        planned(SilentListener(), load(), ASKED)
    assert raised.value.hint == f"hf download {REPO}"
    snapshot = paths.hub_cache() / "models--Qwen--Qwen3-8B" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model-00001-of-00005.safetensors").write_bytes(b"")
    plan = serve_original.planned(SilentListener(), load(), ASKED)
    assert (plan.auto["chat"], plan.models[0].context, plan.models[0].users) == (MODEL, 8192, 4)
