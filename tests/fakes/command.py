"""The real command in a real process, with the test's own home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def argv(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "llmctl", *arguments]


def spawn(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    """Started, not waited for; stdin is /dev/null."""
    return subprocess.Popen(
        argv(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )


def llmctl(
    *arguments: str, stdin: str | None = None, timeout: float = 60, **environment: str
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
