"""The real command in a real process, with the test's own home."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]


def argv(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "llmctl", *arguments]


@contextmanager
def spawn(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Started, not waited for, and gone at the end in any case; stdin is /dev/null."""
    process = subprocess.Popen(
        argv(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def kill_engine_of(process: subprocess.Popen[bytes], *, after_s: float) -> None:
    """SIGKILL to the engine of a running ``llmctl run`` once it has used ``after_s`` of CPU."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children():
                if "llmctl.engine.llama_cpp.worker" in child.cmdline() and sum(child.cpu_times()[:2]) > after_s:
                    child.kill()
                    return
        if process.poll() is not None:
            raise AssertionError(f"it ended by itself: {process.communicate()}")
        time.sleep(0.02)
    raise AssertionError("the engine never got to work")


def llmctl(
    *arguments: str, stdin: str | None = None, timeout: float = 150, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run to its end. Without ``stdin`` it is /dev/null."""
    return subprocess.run(
        argv(*arguments),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **environment},
    )


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document on stdout, its envelope checked."""
    made: dict[str, Any] = json.loads(done.stdout)
    assert set(made) == {"schema", "command", "data", "warnings", "error"}
    assert made["schema"] == "llmctl/1"
    return made


def at_a_terminal(arguments: list[str], answer: str) -> tuple[int, str]:
    """The exit code, and what a person sees who answers the first question."""
    terminal, other_end = pty.openpty()
    child = subprocess.Popen(argv(*arguments), stdin=other_end, stdout=other_end, stderr=other_end)
    os.close(other_end)
    seen, answered = b"", False
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # Linux says so when nobody has the other end any more
            break
        seen += piece
        if b"[y/N]" in seen and not answered:
            answered = True
            os.write(terminal, f"{answer}\n".encode())
    os.close(terminal)
    return child.wait(timeout=30), seen.decode()
