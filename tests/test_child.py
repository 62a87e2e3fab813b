"""The door to what may crash, hang or print: asked with modules written for the occasion."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from llmctl import child

ROOT = Path(__file__).parents[1]
Modules = Callable[[str], dict[str, str]]


@pytest.fixture
def module(tmp_path: Path) -> Modules:
    def make(body: str) -> dict[str, str]:
        text = f"import os, signal, sys, time\nfrom llmctl import child\ndef tell(question):\n    {body}\n"
        (tmp_path / "asked.py").write_text(text + "sys.exit(child.answer(tell))\n")
        return {**os.environ, "PYTHONPATH": str(tmp_path)}

    return make


def test_question_and_answer_are_json_whatever_is_printed(module: Modules) -> None:
    environ = module("print('noise'); os.write(1, b'more noise'); return {'twice': question['n'] * 2}")
    assert child.ask(environ, "asked", {"n": 21}, deadline_s=10) == child.Reply({"twice": 42})


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise ValueError('no such thing')", "failed: ValueError: no such thing"),
        ("os._exit(3)", "failed (exit code 3)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed (signal 11)"),
        ("os.kill(os.getpid(), signal.SIGILL)", "was stopped by an illegal instruction"),
        ("os._exit(0)", "gave an answer that can't be read"),
    ],
)
def test_failures_are_told_apart(module: Modules, body: str, why: str) -> None:
    reply = child.ask(module(body), "asked", deadline_s=10)
    assert (reply.data, reply.why) == (None, why)
    assert reply.illegal_instruction == ("illegal" in why)


def test_the_deadline_holds(module: Modules) -> None:
    begun = time.monotonic()
    reply = child.ask(module("time.sleep(60)"), "asked", deadline_s=0.5)
    assert reply.why == "did not answer within 0.5 s"
    assert time.monotonic() - begun < 3


def test_nothing_is_imported_from_the_working_directory(module: Modules, home: Path) -> None:
    (home / "json.py").write_text("raise SystemExit('taken over')")
    assert child.ask(module("return 1"), "asked", deadline_s=10).data == 1


def test_an_interpreter_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    reply = child.ask(os.environ, "asked", deadline_s=1)
    assert reply.data is None
    assert "can't be asked" in (reply.why or "")


def test_the_environment_of_a_child_is_what_it_needs_and_no_secret() -> None:
    needed = {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "CUDA_VISIBLE_DEVICES": "1", "XDG_CACHE_HOME": "/c"}
    needed |= {"LD_LIBRARY_PATH": "/l", "PYTHONPATH": "/p", "GGML_VK_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "2"}
    names = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "OFFICE", "https_proxy")
    others = (*names, "NVIDIA_API_KEY", "LLAMA_ARG_API_KEY", "LLMCTL_HUB_URL", "XDG_SESSION_COOKIE", "SSH_AUTH_SOCK")
    assert child.environment({**needed, **dict.fromkeys(others, "secret")}) == needed | {"GOMP_SPINCOUNT": "1000"}


@pytest.mark.parametrize("own", [{"GOMP_SPINCOUNT": "5"}, {"OMP_WAIT_POLICY": "active"}])
def test_how_threads_wait_is_the_users_to_say(own: dict[str, str]) -> None:
    assert child.environment(own) == own


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends a child with its parent on Linux only")
@pytest.mark.parametrize("stopped", [False, True])
def test_a_child_does_not_outlive_a_parent_that_was_killed(module: Modules, tmp_path: Path, stopped: bool) -> None:
    place = tmp_path / "pid"
    environ = module(f"open({str(place)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    code = "import os; from llmctl import child; child.ask(os.environ, 'asked', deadline_s=60)"
    parent = subprocess.Popen([sys.executable, "-c", code], env={**environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"})
    while not (place.exists() and place.read_text()):
        time.sleep(0.02)
    pid = int(place.read_text())
    if stopped:
        os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)
