"""`engine install|use` of builds of llama-cpp-python: real pip, real children, and a real answer by the new build."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llmctl import paths
from llmctl.cli import main
from llmctl.engine import builds
from llmctl.engine.install import Remedy, llama_server
from llmctl.engine.install import python_build as installing
from llmctl.engine.install.python_build import log_file
from llmctl.errors import EngineError, LlmctlError, ResourceError
from llmctl.types.engine_name import BuildName
from llmctl.types.listener import SilentListener
from llmctl.workspace import engine_builds
from tests.fakes import python_build
from tests.fakes.command import alone
from tests.fakes.llama_server import fake_server
from tests.fakes.scripted_model import write_scripted

pytestmark = pytest.mark.usefixtures("measured")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the package index."""
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "false")  # which is pip's way of yes: no environment is made
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path / "index"


def put(name: BuildName, package: str) -> Path:
    folder = builds.place() / name / "llama_cpp"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(package, "utf-8")
    return folder


def found_by_a_child() -> str:
    """Where a new process of llmctl finds llama-cpp-python."""
    words = "import llmctl.engine, importlib.util; print(importlib.util.find_spec('llama_cpp').origin)"
    return subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout.strip()


def test_a_build_is_installed_answers_and_is_used(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python_build.distribution(index, python_build.working(), tool="compiler")
    model = write_scripted(tmp_path / "tiny.gguf", ["An", " answer"])
    before = found_by_a_child()
    assert main(["engine", "install", "cpu", "--yes"]) == 0
    said = capsys.readouterr().err
    assert "compiled here, 5 to 15 minutes on most machines" in said
    assert f"what it says is in {log_file()}" in said
    assert "only a build made here uses all instructions of this processor" in said
    assert found_by_a_child() == before, "installing changes nothing yet"
    assert main(["engine", "use", "cpu"]) == 0
    assert found_by_a_child() == str(builds.place() / "cpu" / "llama_cpp" / "__init__.py")
    answered = alone("run", "-m", str(model), "--local", "hi")
    assert answered.stdout == "An answer\n", answered.stderr
    assert main(["engine", "use", "installed"]) == 0
    assert found_by_a_child() == before


@pytest.mark.parametrize("package", [python_build.BROKEN, "import os; os.kill(os.getpid(), 4)\n"])
def test_one_that_does_not_work_leaves_the_older_one(
    package: str, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python_build.distribution(index, package)
    older = put(BuildName.CPU, "older")
    assert main(["engine", "install", "cpu", "--yes"]) == 8
    assert "the new build can't be used" in capsys.readouterr().err
    assert (older / "__init__.py").read_text("utf-8") == "older"
    assert {file.name for file in builds.place().iterdir()} - {".lock"} == {"cpu"}


class Impatient(SilentListener):
    """Presses Ctrl-C when pip is at work."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)
        if "pip is at work" in text:
            raise KeyboardInterrupt


def test_ctrl_c_leaves_nothing_and_says_so() -> None:
    listener = Impatient()
    with pytest.raises(KeyboardInterrupt):
        engine_builds.install(listener, BuildName.CPU, yes=True, model_file=lambda: None)
    assert "nothing was installed" in listener.notes[-1]
    assert {file.name for file in builds.place().iterdir()} <= {".lock"}


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("CMake Error at CMakeTestCXXCompiler.cmake:60 (message):", EngineError, "no C++ compiler works here"),
        ("fatal error: error writing to x.s: No space left on device", ResourceError, "the disk ran full"),
        ("error: something else", EngineError, "error: something else"),
    ],
)
def test_what_a_failed_compilation_says(said: str, error: type[LlmctlError], words: str) -> None:
    failing = Remedy(f"echo '{said}'; false #")
    with (
        pytest.raises(error, match=re.escape(words)),
        installing.install(BuildName.CPU, failing, listener=SilentListener()),
    ):
        pass
    assert not builds.builds()


def test_one_that_does_not_answer_is_not_taken(index: Path, tmp_path: Path) -> None:
    """It computes, and fails where a model is loaded."""
    python_build.distribution(index, python_build.working() + "del llama_model_load_from_file\n")
    model = write_scripted(tmp_path / "tiny.gguf", ["An", " answer"])
    with pytest.raises(EngineError, match="the new build does not answer"):
        engine_builds.install(SilentListener(), BuildName.CPU, yes=True, model_file=lambda: model)
    assert not builds.builds()


def test_a_build_that_can_not_be_used_is_not_chosen(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(BuildName.VULKAN, python_build.BROKEN)
    assert main(["engine", "use", "vulkan"]) == 8
    assert "the one in use stays" in capsys.readouterr().err
    assert builds.chosen() is None


def test_the_list_has_every_build(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(BuildName.VULKAN, python_build.BROKEN)
    assert main(["engine", "list"]) == 0
    _, own, vulkan, why = capsys.readouterr().out.splitlines()
    assert own.startswith("▸ installed") and own.endswith("this Python")
    assert vulkan.startswith("  vulkan") and "not usable" in vulkan and " B  " in vulkan
    assert why.startswith("vulkan is not usable: llama-cpp-python can't be loaded")


def test_a_build_is_removed_unless_it_is_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    folder = put(BuildName.CPU, python_build.working()).parent
    builds.choose(BuildName.CPU)
    assert main(["engine", "remove", "cpu", "--yes"]) == 2
    assert "next: llmctl engine use installed" in capsys.readouterr().err
    builds.choose(None)
    assert main(["engine", "remove", "cpu"]) == 2, "nobody said yes"
    assert folder.exists()
    assert main(["engine", "remove", "cpu", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"] == {"name": "cpu", "freed_bytes": len(python_build.working())}
    assert {file.name for file in builds.place().iterdir()} <= {".lock"}


def test_a_compiled_server_is_removed_unless_it_answers(capsys: pytest.CaptureFixture[str]) -> None:
    folder = llama_server.folder() / llama_server.required().name
    fake_server(folder)
    assert main(["engine", "use", "llama-server"]) == 0
    assert main(["engine", "remove", "llama-server", "--yes"]) == 2
    assert "next: llmctl engine use llama-cpp" in capsys.readouterr().err
    assert main(["engine", "use", "llama-cpp"]) == 0
    assert main(["engine", "remove", "llama-server", "--yes"]) == 0
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["use", "vulkan"], 4, "there is no build for vulkan here"),
        (["use", "vulkan", "--path", "/bin/true"], 2, "--path names a llama-server"),
        (["install", "cuda"], 2, "this machine has no GPU that a build for cuda can use"),
        (["install", "cpu"], 2, "5 to 15 minutes on most machines"),
        (["install", "vulcan"], 2, "did you mean vulkan?"),
        (["remove", "vulcan"], 2, "did you mean vulkan?"),
        (["remove", "installed"], 2, "it stays, for you to go back to"),
        (["remove", "vulkan"], 4, "llmctl has installed no vulkan here"),
    ],
)
def test_what_can_not_be(arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", *arguments]) == code
    assert words in capsys.readouterr().err
    assert not paths.config_file().exists()


def test_a_choice_that_is_gone_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    put(BuildName.CPU, python_build.working())
    builds.choose(BuildName.CPU)
    (builds.place() / "cpu" / "llama_cpp" / "__init__.py").unlink()
    (builds.place() / "cpu" / "llama_cpp").rmdir()
    assert builds.chosen() is None
    assert str(builds.place()) not in found_by_a_child()
