"""Starts the worker, waits for it, knows why it ended, and takes it down: the parent survives whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from llmctl import child
from llmctl.errors import EngineDiedError, EngineError
from llmctl.types.endpoint import Address

STDERR_LINES = 40
STOP_S = 3.0
LOOK_S = 1.0  # how often it is looked whether the process has been stopped
STALL_S = 3.0  # so long a stopped process may take to go on
LLAMA_CPP = "llmctl.engine.llama_cpp.worker"
DOCTOR = "llmctl doctor"  # tells the command that installs a build for this machine


class Worker:
    """A child process, ``python -m MODULE PID``, that has begun to import the engine and waits for its job.

    It leads its own session, so Ctrl-C at the terminal reaches only us, and it ends when we do, even if we are killed.
    If somebody stops it (SIGSTOP) and it doesn't go on, it is ended, so that nobody waits for it for ever.
    """

    def __init__(self, module: str = LLAMA_CPP) -> None:
        self._module = module
        self._said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._last_words: deque[str] = deque(maxlen=STDERR_LINES)
        self._was_stopped = False
        self._closed = threading.Event()
        started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()
        # The kernel ends the process with the thread that has started it: with the one that lives as long as it does.
        self._draining = threading.Thread(target=self._start_and_drain, args=(started,), daemon=True)
        self._draining.start()
        process = started.get()
        if isinstance(process, OSError):
            raise EngineError(f"the engine can't be started: {process.strerror}", hint=DOCTOR) from process
        self._process = process
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self, job: Mapping[str, Any], *, timeout_s: float) -> Mapping[str, Any]:
        """Sends the job and returns what the worker says when the model is loaded. Raises EngineError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is dead already: what it said last tells why
        try:
            line = self._said.get(timeout=timeout_s)
        except queue.Empty as error:
            self.close()
            raise EngineError(
                f"the engine did not load {job['model']} within {timeout_s:.0f} s", hint=DOCTOR
            ) from error
        if not line:
            raise self.death()
        message = json.loads(line)
        if "ready" in message:
            ready: Mapping[str, Any] = message["ready"]
            return ready
        self.close()
        if "missing" in message:
            raise EngineError(f"llama-cpp-python can't be loaded: {message['missing'][:200]}", hint=DOCTOR)
        reason = next(iter(message["log"]), message["failed"])
        raise EngineError(f"llama.cpp can't load {job['model']}: {reason[:300]}", hint=DOCTOR)

    def death(self) -> EngineDiedError:
        """Why the process ended, to be raised by whoever noticed that it has."""
        try:
            code = self._process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self.close()
            return EngineDiedError("the engine stopped answering", hint=DOCTOR)
        self._draining.join(timeout=STOP_S)
        return EngineDiedError(f"the engine died: {self._cause(code)}", hint=DOCTOR)

    def _cause(self, code: int) -> str:
        if self._was_stopped:
            return "it was stopped (SIGSTOP) and did not go on"
        if code == -signal.SIGKILL:
            return "it was killed (signal 9), by hand or by the kernel because memory ran out"
        if code == -signal.SIGILL:
            return "illegal instruction (signal 4), this build is for another CPU"
        words = next((line for line in reversed(self._last_words) if line.strip()), "")
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            return f"{name} {words[:200]}".strip()
        return f"exit code {code} {words[:200]}".strip()

    def close(self) -> None:
        """Ends the process; harmless when it has ended."""
        self._closed.set()
        if self._process.poll() is None:
            self._process.kill()  # it holds nothing that could be left half-written
        self._process.wait()
        self._draining.join(timeout=STOP_S)
        self._close_pipes()

    def let_go(self) -> None:
        """Leaves the process to itself: it has let go of us, and ends when nobody has used it for long enough."""
        self._closed.set()
        self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # unsent bytes of a job for a process that is gone
                    pipe.close()

    def _listen(self) -> None:
        """The worker says one line. An empty one means that it ended without a word."""
        assert self._process.stdout is not None
        self._said.put(self._process.stdout.readline())

    def _start_and_drain(self, started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError]) -> None:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", self._module, str(os.getpid())],  # -P: not from the cwd
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=child.environment(os.environ),
            )
        except OSError as error:
            started.put(error)
            return
        started.put(process)
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self._last_words.append(line.decode("utf-8", "replace").strip())
        process.wait()

    def _watch(self) -> None:
        """Ends the process if it is stopped and doesn't go on: whoever waits for it then learns that it has ended."""
        stopped_since = None
        while not self._closed.wait(LOOK_S) and self._process.poll() is None:
            if not is_stopped(self.pid):
                stopped_since = None
                continue
            stopped_since = stopped_since or time.monotonic()
            if time.monotonic() - stopped_since >= STALL_S:
                self._was_stopped = True
                self._process.kill()


def is_stopped(pid: int) -> bool:
    """Whether a process waits for SIGCONT; False where the system doesn't tell (it does on Linux)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state == b"T"


class Engine:
    """A loaded model behind ``address``. A context manager: leaving it ends the process.

    ``build`` names the engine to the commit: "llama-cpp-python 0.3.36, ggml 0.25.3 d25f87b".
    """

    def __init__(
        self,
        worker: Worker,
        address: Address,
        load_s: float,
        has_chat_template: bool,
        build: str,
        sequences: int = 1,
    ) -> None:
        self._worker = worker
        self.address = address
        self.load_s = load_s
        self.has_chat_template = has_chat_template
        self.build = build
        self.sequences = sequences

    @property
    def pid(self) -> int:
        return self._worker.pid

    @property
    def was_warm(self) -> bool:
        return False

    def death(self) -> EngineDiedError:
        return self._worker.death()

    def close(self) -> None:
        self._worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def new_token() -> str:
    return secrets.token_urlsafe(32)
