"""`engine list|use` and `--engine` as scripts meet them, with a program that behaves like llama-server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmctl import paths, settings
from llmctl.cli import main
from llmctl.types.listener import SilentListener
from llmctl.workspace.engine import listed
from tests.fakes.command import document, llmctl
from tests.fakes.llama_server import FakeServer, fake_server
from tests.fakes.scripted_model import write_scripted

pytestmark = pytest.mark.usefixtures("measured")


@pytest.fixture
def server(tmp_path: Path) -> FakeServer:
    return fake_server(tmp_path / "bin")


@pytest.fixture
def on_path(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    monkeypatch.setenv("PATH", f"{server.program.parent}:{os.environ['PATH']}")
    return server


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_scripted(tmp_path / "tiny.gguf", ["An", " own", " answer"]))


def used() -> list[tuple[str, str | None]]:
    return [(one.name, one.path) for one in listed(SilentListener(), settings.load()) if one.is_used]


def test_what_there_is_and_what_answers(on_path: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "list"]) == 0
    heads, worker, server = capsys.readouterr().out.splitlines()
    assert heads.split() == ["name", "version", "runs", "on", "state", "disk", "where"]
    assert worker.startswith("▸ installed") and worker.endswith("this Python")
    assert server.startswith("  llama-server") and " 9.8.7 " in server
    assert server.endswith(str(on_path.program))
    assert used() == [("llama-cpp", None)]


def test_one_is_chosen_for_good_and_the_rest_of_the_configuration_stays(on_path: FakeServer) -> None:
    file = paths.config_file()
    file.parent.mkdir(parents=True)
    file.write_text('# mine\ntask = "code"\n')
    assert main(["engine", "use", "llama-server"]) == 0
    assert used() == [("llama-server", str(on_path.program))]
    assert main(["engine", "use", "llama-cpp"]) == 0
    assert used() == [("llama-cpp", None)]
    assert main(["engine", "use", "auto"]) == 0
    assert file.read_text() == '# mine\ntask = "code"\n'


def test_a_program_of_the_users_own(server: FakeServer) -> None:
    assert main(["engine", "use", "llama-server", "--path", str(server.program)]) == 0
    assert used() == [("llama-server", str(server.program))]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["use", "vllm"], 2, "only auto, llama-cpp, llama-server"),
        (["use", "llama-cpp", "--path", "/bin/true"], 2, "--path names a llama-server"),
        (["use", "llama-server", "--path", "/bin/true"], 8, "no llama-server at /bin/true that can be used"),
        (["install", "vllm"], 2, "only llama-server"),
    ],
)
def test_what_can_not_be(arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", *arguments]) == code
    assert words in capsys.readouterr().err
    assert not paths.config_file().exists()


def test_nothing_is_compiled_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for tool in ("cmake", "c++", "make"):  # a machine without them says so first
        (tmp_path / tool).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert main(["engine", "install", "llama-server"]) == 2
    assert "nobody said yes" in capsys.readouterr().err
    assert not paths.config_file().exists()


def test_the_prompt_is_answered_by_the_one_that_was_asked_for(on_path: FakeServer, model: str) -> None:
    native = document(llmctl("run", "-m", model, "--engine", "llama-server", "--json", "hi"))["data"]
    worker = document(llmctl("run", "-m", model, "--engine", "llama-cpp", "--json", "hi"))["data"]
    assert (native["text"], worker["text"]) == ("The answer", "An own answer")
    assert native["route"]["side"] == "local" and native["left_machine"] is None
    assert len(on_path.starts) == 1


def test_one_that_was_asked_for_and_is_not_there(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    done = llmctl("run", "-m", model, "--engine", "llama-server", "hi")
    assert done.returncode == 8
    assert "there is no llama-server on this machine that can be used" in done.stderr
    assert "next: llmctl engine install llama-server" in done.stderr


def test_it_answers_where_llama_cpp_python_can_not(on_path: FakeServer, model: str, tmp_path: Path) -> None:
    done = llmctl("run", "-m", model, "hi", LLAMA_CPP_LIB_PATH=str(tmp_path / "nothing"))
    assert done.stdout == "The answer\n", done.stderr
    assert "llama-server answers: llama-cpp-python can't be used here" in done.stderr
