"""stdout and stderr that can't be written: real processes with a full disk, a closed pipe, a terminal that is gone, a
file that may not grow, and no stream at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pty
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from llmctl.cli import main, streams
from llmctl.cli.output import Output
from llmctl.errors import ResourceError
from tests.fakes.command import llmctl, ran

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")

LLMCTL = [sys.executable, "-m", "llmctl"]
TEXT = ["models", "list", "--all"]
DOCUMENT = ["models", "list", "--json"]
FAILS = ["models", "show", "no-such-model"]
SAYS = """
import sys
from llmctl.cli import output, streams
from llmctl.errors import ResourceError
streams.prepare()
try:
    output.Output("run").must_say("→ office")
except ResourceError as error:
    sys.exit(error.exit_code)
"""
FAILS_IN_JSON = [*FAILS, "--json"]


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    with Path("/dev/full").open("wb") as stream:
        yield stream.fileno()


@contextlib.contextmanager
def closed_pipe() -> Iterator[int]:
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@contextlib.contextmanager
def lost_terminal() -> Iterator[int]:
    master, terminal = pty.openpty()
    os.close(master)
    yield terminal
    os.close(terminal)


Target = Callable[[], contextlib.AbstractContextManager[int]]
UNWRITABLE = [
    (full_disk, 7, "no space left on device"),
    (lost_terminal, 7, "input/output error"),
    (closed_pipe, 141, None),
]


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a command; ``streams`` are files by name instead of pipes."""

    def command(arguments: Sequence[str], **streams: int) -> subprocess.CompletedProcess[str]:
        done = ran(arguments, environment={"PYTHONUNBUFFERED": request.param}, streams=streams)
        return subprocess.CompletedProcess(arguments, done.returncode, done.stdout.decode(), done.stderr.decode())

    return command


@pytest.mark.parametrize(("target", "code", "reason"), UNWRITABLE)
@pytest.mark.parametrize(
    "command",
    [TEXT, DOCUMENT, FAILS_IN_JSON, ["--help"], ["plan", "--help"], ["completion", "bash"], ["--version"]],
    ids=" ".join,
)
def test_an_answer_that_can_not_be_written_is_an_error_in_one_line(
    command: list[str], target: Target, code: int, reason: str | None, run: Run
) -> None:
    with target() as stdout:
        done = run(command, stdout=stdout)
    line = "" if reason is None else f"error: the output could not be written: {reason}\n"
    assert (done.returncode, done.stderr) == (code, line)


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """As by ``ulimit -f``."""
    limit = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh"]
    with (tmp_path / "out").open("wb") as stdout:
        done = subprocess.run([*limit, *LLMCTL, *TEXT], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (7, "error: the output could not be written: file too large\n")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0


@pytest.mark.parametrize("target", [full_disk, lost_terminal, closed_pipe])
@pytest.mark.parametrize(
    ("command", "code"), [(TEXT, 0), (DOCUMENT, 0), (FAILS, 4), (FAILS_IN_JSON, 4), (["endpoint"], 2), (["nope"], 2)]
)
def test_without_stderr_answer_and_exit_code_are_the_same(
    command: list[str], code: int, target: Target, run: Run
) -> None:
    with target() as stderr:
        done = run(command, stderr=stderr)
    assert (done.returncode, done.stdout) == (code, run(command).stdout)


@pytest.mark.parametrize(("target", "code"), [(full_disk, 7), (lost_terminal, 7), (closed_pipe, 141)])
def test_neither_can_be_written(target: Target, code: int, run: Run) -> None:
    with target() as both:
        assert run(TEXT, stdout=both, stderr=both).returncode == code
        assert run(FAILS, stdout=both, stderr=both).returncode == 4


@pytest.mark.parametrize(
    ("command", "code", "closed"),
    [
        *[(TEXT, 0, closed) for closed in (">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-")],
        (DOCUMENT, 0, ">&-"),
        (FAILS, 4, "2>&-"),
        (FAILS_IN_JSON, 4, ">&-"),
        (FAILS_IN_JSON, 4, "2>&-"),
    ],
)
def test_streams_that_were_closed_take_everything(command: list[str], code: int, closed: str) -> None:
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh"]
    done = subprocess.run([*shell, *LLMCTL, *command], capture_output=True, text=True, check=False, timeout=120)
    answer = "" if ">&-" in closed.split() else llmctl(*command).stdout
    assert (done.returncode, done.stdout) == (code, answer)
    assert "Traceback" not in done.stderr


def test_what_must_be_said_and_can_not_be_is_an_error() -> None:
    """That a prompt is about to leave: where nobody can be told, it stays."""
    with full_disk() as stderr:
        done = subprocess.run([sys.executable, "-c", SAYS], stderr=stderr, check=False)
    assert done.returncode == ResourceError.exit_code


def test_a_failure_is_told_of_the_stream_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert streams.stdout_error() is None
    assert streams.stderr_error() is None

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/models/x.gguf")

    monkeypatch.setattr(Output, "text", full)
    assert main(["completion", "bash"]) == ResourceError.exit_code


def test_the_document_tells_of_a_full_disk_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/models/x.gguf")

    monkeypatch.setattr("llmctl.workspace.situation.shelf", full)
    assert main(["models", "list", "--json"]) == ResourceError.exit_code
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"] == "the disk is full: /models/x.gguf could not be written"
