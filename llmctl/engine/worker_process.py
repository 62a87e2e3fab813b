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
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from llmctl import child
from llmctl.engine.load_share import LoadShare
from llmctl.engine.log import WITHOUT_BACKTRACE, EngineLog
from llmctl.errors import EngineDiedError, EngineError, ResourceError
from llmctl.host import Host
from llmctl.probe.cgroup import oom_kills, was_oom_since
from llmctl.types.endpoint import Address
from llmctl.types.listener import TellShare

STOP_S = 3.0
LOOK_S = 1.0  # how often it is looked whether the process has been stopped
SHARE_LOOK_S = 0.5  # how often it is looked how much of a file is read
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
        self.log = EngineLog()
        self._loads: tuple[Path, int] | None = None
        self._oom_kills: int | None = None
        self._was_stopped = False
        self._has_failed = False
        self._closed = threading.Event()
        started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()
        # The kernel ends the process with the thread that has started it: with the one that lives as long as it does.
        self._waiting = threading.Thread(target=self._start_and_wait, args=(started,), daemon=True)
        self._waiting.start()
        process = started.get()
        if isinstance(process, OSError):
            self.log.remove()
            raise EngineError(f"the engine can't be started: {process.strerror}", hint=DOCTOR) from process
        self._process = process
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self, job: Mapping[str, Any], *, timeout_s: float, tell: TellShare | None = None) -> Mapping[str, Any]:
        """Sends the job and returns what the worker says when the model is loaded; ``tell`` hears how far it is. Raises
        EngineError, and ResourceError where no port is free."""
        self._oom_kills = oom_kills(Host())
        with contextlib.suppress(OSError):
            self._loads = Path(job["file"]), Path(job["file"]).stat().st_size
        self._send({**job, "log": None if self.log.path is None else str(self.log.path)})
        message = self._answer(time.monotonic() + timeout_s, LoadShare(self.pid, Path(job["file"])), tell)
        if message is None:
            self.close()
            raise EngineError(f"the engine did not load {job['model']} within {timeout_s:.0f} s", hint=DOCTOR)
        if "ready" in message:
            ready: Mapping[str, Any] = message["ready"]
            return ready
        self.close()
        if "no_port" in message:
            raise ResourceError(
                f"the engine has no port on 127.0.0.1 to answer at: {message['no_port']}",
                hint="ss -tan   shows who holds them",
            )
        if "missing" in message:
            raise EngineError(f"llama-cpp-python can't be loaded: {message['missing'][:200]}", hint=DOCTOR)
        from llmctl.engine.death import not_loaded

        raise not_loaded(job["model"], message["failed"], message["log"])

    def _send(self, job: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead already: what it said last tells why
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()

    def _answer(self, deadline_s: float, share: LoadShare, tell: TellShare | None) -> Mapping[str, Any] | None:
        """What the worker says in the end, None where it says nothing in time. Raises EngineDiedError."""
        placed = 0.0
        while (left_s := deadline_s - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                line = self._said.get(timeout=min(left_s, SHARE_LOOK_S))
                if not line:
                    raise self.death()
                message: Mapping[str, Any] = json.loads(line)
                if "progress" not in message:
                    return message
                placed = message["progress"]
            if tell is not None:
                tell(share.now(placed))
        return None

    def death(self) -> EngineDiedError:
        """Why the process ended, to be raised by whoever noticed that it has."""
        from llmctl.engine import death

        self._has_failed = True
        try:
            code = self._process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            error = death.died(death.End(None, self.log.text()), self.log.path, before="the engine stopped answering")
            self.close()
            return error
        if self._was_stopped:
            return EngineDiedError(f"the engine died: {death.STOPPED}", hint=DOCTOR)
        was_oom = was_oom_since(Host(), self._oom_kills)
        end = death.End(code, self.log.text(), was_oom, *(self._loads or ()))
        return death.died(end, self.log.path)

    def close(self) -> None:
        """Ends the process; harmless when it has ended."""
        self._closed.set()
        if self._process.poll() is None:
            self._kill()
        self._process.wait()
        self._waiting.join(timeout=STOP_S)
        self._close_pipes()
        (self.log.close if self._has_failed else self.log.remove)()

    def let_go(self) -> None:
        """Leaves the process to itself: it has let go of us, and ends when nobody has used it for long enough."""
        self._closed.set()
        self._close_pipes()
        self.log.close()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # unsent bytes of a job for a process that is gone
                    pipe.close()

    def _listen(self) -> None:
        """Lines of the worker, until it says how loading ended. An empty one means that it ended without a word."""
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # closed meanwhile
            while True:
                line = self._process.stdout.readline()
                self._said.put(line)
                if not line.startswith(b'{"progress"'):
                    return

    def _start_and_wait(self, started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError]) -> None:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", self._module, str(os.getpid())],  # -P: not from the cwd
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log.file,
                start_new_session=True,
                env=child.environment(os.environ) | WITHOUT_BACKTRACE,
            )
        except OSError as error:
            started.put(error)
            return
        started.put(process)
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
                self._kill()

    def _kill(self) -> None:
        """With what it has started: it leads a session. None holds anything that could be left half-written."""
        if os.name != "posix":
            self._process.kill()
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


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
