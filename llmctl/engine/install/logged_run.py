"""A command that takes minutes: its output goes to a log, and how far a compilation is to the listener."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from llmctl import units
from llmctl.errors import EngineError
from llmctl.printable import printable
from llmctl.shell import command
from llmctl.types.listener import Listener

LOOK_S = 1.0
TAIL_BYTES = 4096
STEP = re.compile(rb"\[ *(\d+)(?:/(\d+)|%)\]")  # ninja's "[12/80]", make's "[ 16%]"
STEP_PERCENT = 10
FEWEST_STEPS = 10  # cmake tries the compiler in two
LONGEST = 200


@contextlib.contextmanager
def opened_log(file: Path) -> Iterator[int]:
    """The new log, for its owner only. Raises OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


def run(
    words: Sequence[str],
    output: int,
    log: Path,
    listener: Listener,
    *,
    environment: Mapping[str, str],
    failure: str,
) -> None:
    """Runs a command to its end, at low priority; with it end those that it has started.

    Raises EngineError, ``failure`` and what the log says.
    """
    nice = ["nice", "-n", "10"] if shutil.which("nice") else []
    process = subprocess.Popen(
        [*nice, *words],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        start_new_session=True,
    )
    try:
        _tell(process, log, listener)
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode != 0:
        raise EngineError(f"{failure}: {_error(log)}", hint=command("less", names=[log]))


def _tell(process: subprocess.Popen[bytes], log: Path, listener: Listener) -> None:
    """Says that it compiles, and then how far it is, every STEP_PERCENT."""
    begun_s, next_percent = 0.0, 0
    while True:
        try:
            process.wait(timeout=LOOK_S)
        except subprocess.TimeoutExpired:
            percent = _percent(log)
            if percent is None or percent < next_percent:
                continue
            if not next_percent:
                begun_s = time.monotonic()
                listener.note("  compiling …")
            else:
                left_s = (time.monotonic() - begun_s) * (100 - percent) / percent
                listener.note(f"  {percent} % compiled, some {units.seconds(left_s)} left")
            next_percent = percent - percent % STEP_PERCENT + STEP_PERCENT
        else:
            return


def _percent(log: Path) -> int | None:
    """How much is compiled; None before anything is."""
    steps = [(int(done), int(of or 100)) for done, of in STEP.findall(_tail(log))]
    done, of = next((step for step in reversed(steps) if step[1] >= FEWEST_STEPS), (0, 0))
    return done * 100 // of if of else None


def _error(log: Path) -> str:
    """The first line with an error, and what stands below it; else the last line."""
    lines = [line.strip() for line in _tail(log).decode("utf-8", "replace").splitlines() if line.strip()]
    first = next((at for at, line in enumerate(lines) if "error" in line.lower()), len(lines) - 1)
    return printable(" ".join(lines[first : first + 2]), LONGEST) or "it said nothing"


def _tail(log: Path) -> bytes:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return file.read()
