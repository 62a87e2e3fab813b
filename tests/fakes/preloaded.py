"""llmctl with everything imported, forked for each command: what a process costs besides is paid once.

    with Preloaded() as llmctl:
        done = llmctl("run", "--endpoint", "desk", "hi", stdin=b"…")

Streams are files; what depends on how Python opens them (a closed one, a locale) takes a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.fakes.command import ROOT


@dataclass(frozen=True)
class Done:
    code: int
    stdout: bytes
    stderr: str


class Preloaded:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.preloaded"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def __call__(self, *arguments: str, stdin: bytes = b"", **environment: str) -> Done:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            (place / "0").write_bytes(stdin)
            command = {
                "arguments": arguments,
                "environment": {**os.environ, **environment},
                "folder": str(Path.cwd()),
                "streams": folder,
            }
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            return Done(code, (place / "1").read_bytes(), (place / "2").read_text("utf-8", "replace"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def serve() -> None:
    """Reads commands from stdin and writes the exit code of each to what was stdout."""
    import llmctl.cli.answer_form
    import llmctl.cli.app
    import llmctl.cli.run
    import llmctl.cli.shortening
    import llmctl.router.answer  # noqa: F401

    for line in sys.stdin.buffer:
        command = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_run(command))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()


def _run(command: dict[str, Any]) -> int:
    from llmctl.cli import main

    os.environ.clear()
    os.environ.update(command["environment"])
    os.chdir(command["folder"])
    streams = Path(command["streams"])
    for number, mode in enumerate(("rb", "wb", "wb")):
        with (streams / str(number)).open(mode) as file:
            os.dup2(file.fileno(), number)
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        stream = _text(number, mode)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    try:
        code = main(command["arguments"])
        sys.stdout.flush()
    except BaseException:  # what a process of its own would end with
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    return code


def _text(number: int, mode: str) -> IO[str]:
    return open(number, mode, encoding="utf-8", errors="backslashreplace" if number == 2 else "strict", closefd=False)


if __name__ == "__main__":
    serve()
