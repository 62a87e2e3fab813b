"""A gateway in the background that ends before it answers: its starter says why. Real processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest

from llmctl.errors import EngineError, ResourceError
from llmctl.workspace import serve_detached
from llmctl.workspace.serve_detached import Parent, Started


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'error: no such option --wings' >&2; echo '  next: llmctl serve --help' >&2; exit 2", "--wings"),
        ("echo 'Fatal Python error: Segmentation fault' >&2", "Segmentation fault"),
        (f"kill -{signal.SIGKILL.value} $$", "it was ended by SIGKILL"),
        ("exit 3", "exit code 3"),
    ],
    ids=["error", "line", "signal", "code"],
)
def test_one_that_ends_without_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path, script: str, why: str
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    with pytest.raises(ResourceError, match=f"ended before it answered: .*{why}") as raised:
        serve_detached.start(["serve"])
    assert raised.value.hint == "llmctl logs serve" and "next:" not in raised.value.message


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (EngineError("it burst", hint="llmctl doctor"), "engine", "it burst"),
        (OSError(28, "No space left on device", "/full/lock"), "resource", "/full/lock: no space left on device"),
        (OSError("whatever"), "resource", "whatever"),
    ],
)
def test_the_starter_hears_of_what_ends_it(raised: Exception, code: str, message: str) -> None:
    reading, writing = os.pipe()
    with pytest.raises(type(raised)), Parent(writing).hearing_errors():
        raise raised
    with os.fdopen(reading, "rb") as heard:
        started = msgspec.json.decode(heard.read(), type=Started)
    assert (started.code, started.message) == (code, message)
