"""A home with two tiny models in it, commands run there, and the engines that they leave."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.fakes.scripted_model import write_scripted

ROOT = Path(__file__).parents[2]
WORKER = "llmctl.engine.llama_cpp.worker"
WAIT_S = 60.0
LONG = "word " * 20_000  # reading it takes seconds


class CannotError(Exception):
    """This machine can't do a row, and why."""


@dataclass
class Place:
    """A home of its own, and the models in it: one that answers two words, one that never ends."""

    home: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMCTL_", "XDG_", "HF_"))}
        runtime = self.home / "runtime"
        runtime.mkdir(mode=0o700)
        self.environment = kept | {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(runtime), "PYTHONPATH": str(ROOT)}
        self.short = write_scripted(self.home / "short.gguf", ["The", " answer"])
        self.long = self.home / "long.txt"
        self.long.write_text(LONG)
        self.endless = write_scripted(self.home / "endless.gguf", ["again", " and"], repeats=True, context=1 << 17)

    @property
    def state(self) -> Path:
        return self.home / ".local/state/llmctl/engines"

    def start(self, *arguments: str, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "llmctl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            env=self.environment,
            start_new_session=True,
            preexec_fn=before,  # one thread
        )

    def asks(self, *options: str, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
        """`llmctl run` with the model that never ends."""
        return self.start("run", "--local", "-m", str(self.endless), *options, "hi", before=before)

    def workers(self) -> list[psutil.Process]:
        """The engines with this home; what an engine has started for itself (its chat template's process) ends with
        it."""
        engines = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if WORKER in process.cmdline() and process.environ().get("HOME") == str(self.home):
                    engines[process.pid] = process
        return [process for process in engines.values() if process.ppid() not in engines]

    def staying(self) -> list[int]:
        done = subprocess.run(
            [sys.executable, "-m", "llmctl", "ps", "--json"], capture_output=True, env=self.environment, check=False
        )
        data = json.loads(done.stdout)["data"] or {}
        return [engine["pid"] for engine in data.get("engines", [])]


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > deadline:
            raise CannotError(f"{what} did not happen within {WAIT_S:.0f} s")
        time.sleep(0.01)
