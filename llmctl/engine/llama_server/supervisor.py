"""The child process that starts llama-server, waits until it answers, and ends with it.

Runs as ``python -m llmctl.engine.llama_server.supervisor PID`` and speaks with its parent as the worker with
llama-cpp-python does: one job on stdin, one answer on stdout. Clients speak with llama-server itself. When the parent
is gone, so is this process, and with it llama-server; one that stays ends by the same clock as the worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import IO, Any, TextIO

from llmctl import child
from llmctl.confinement import NetworkAccess, confine, forbid_connections
from llmctl.engine.llama_cpp.idle import Stay
from llmctl.engine.llama_cpp.native_log import tell_crashes
from llmctl.engine.llama_server.environment import environment
from llmctl.engine.llama_server.readiness import port_of
from llmctl.engine.worker_process import LOOK_S, STALL_S, is_stopped

LOOK_LOADING_S = 0.02
KEPT_LINES = 20
WHY_S = 300.0  # that the second try may take which tells why the first one failed
HEAD = re.compile(r"^\d[\d.]* [A-Z] ")  # of a line of its log: the time, and how bad it is
ABORTS = ("GGML_ASSERT", "terminate called")  # what it says before it aborts: no text of anybody's


class LlamaServer:
    """llama-server, started with ``options``; its stderr is read, and dropped but for what it says while it loads, when
    nobody has asked it anything, and before it aborts."""

    def __init__(self, program: str, options: list[str], token: str, has_no_network: bool) -> None:
        """``has_no_network``: it can make no connection, only take those of others. Raises OSError."""
        with _key_file(token) as (name, handle):
            self._process = _started([program, *options, "--api-key-file", name], handle, has_no_network)
        self.pid = self._process.pid
        self.is_loading = True
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        assert self._process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,), daemon=True)
        self._reader.start()

    def wait_until_ready(self) -> int | None:
        """Its port on 127.0.0.1 when the model is loaded; None if it ended before."""
        while self._process.poll() is None:
            if (port := port_of(self.pid)) is not None:
                self.is_loading = False
                self._lines.clear()
                return port
            time.sleep(LOOK_LOADING_S)
        return None

    def wait(self) -> tuple[int, str]:
        """How it ended, and the last it said. One that is stopped and doesn't go on is ended."""
        stopped_since = None
        while (code := self.ended_within(LOOK_S)) is None:
            if not is_stopped(self.pid):
                stopped_since = None
                continue
            stopped_since = stopped_since or time.monotonic()
            if time.monotonic() - stopped_since >= STALL_S:
                self.end()
                return 1, "it was stopped (SIGSTOP) and did not go on"
        return code, self.reason()

    def reason(self) -> str:
        """The first error that it told, else the first it said at all; empty where it said nothing."""
        self._reader.join(timeout=LOOK_S)
        errors = (line for line in self._lines if "error" in line.lower())
        return next(errors, next(iter(self._lines), ""))

    def ended_within(self, seconds: float) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=seconds)
        return None

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self, stderr: IO[bytes]) -> None:
        for raw in stderr:
            line = HEAD.sub("", raw.decode("utf-8", "replace")).strip()
            if line and (self.is_loading or any(mark in line for mark in ABORTS)):
                self._lines.append(line)


@contextlib.contextmanager
def _key_file(token: str) -> Iterator[tuple[str, int]]:
    """A file with the key that lies on no disk and has no name but for this process and its children."""
    source, to = os.pipe()
    try:
        with os.fdopen(to, "w", encoding="ascii") as key:
            key.write(f"{token}\n")
        yield f"/dev/fd/{source}", source
    finally:
        os.close(source)


def _started(argv: list[str], handle: int, has_no_network: bool) -> subprocess.Popen[bytes]:
    """Called by the main thread: the kernel ends llama-server with it, and it lives as long as the process."""
    parent = os.getpid()

    def begin() -> None:
        child.end_with_parent(parent)
        if has_no_network:
            forbid_connections(may_listen=True)

    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
        pass_fds=(handle,),
        preexec_fn=begin,
    )


def why(program: str, options: list[str], token: str, has_no_network: bool) -> str:
    """Why the model can't be loaded, which llama-server says only with its log on: so it tries once more. Nobody asks
    it anything meanwhile."""
    server = LlamaServer(program, [option for option in options if option != "--log-disable"], token, has_no_network)
    deadline = time.monotonic() + WHY_S
    while server.ended_within(LOOK_LOADING_S) is None and port_of(server.pid) is None and time.monotonic() < deadline:
        pass
    server.end()
    return server.reason()


def main() -> int:
    child.end_with_parent(int(sys.argv[1]))
    tell_crashes()
    confine(network=NetworkAccess.ALL)  # of which llama-server inherits that no file is written of its memory
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    line = sys.stdin.readline()
    if not line:
        return 0
    return supervise(json.loads(line), channel)


def supervise(job: Mapping[str, Any], channel: TextIO) -> int:
    """Starts llama-server for ``job`` and returns, or dies, when it has ended, as it did."""
    given = (job["program"], job["options"], job["token"], job["has_no_network"])
    try:
        server = LlamaServer(*given)
    except OSError as error:
        _say(channel, {"failed": f"{job['program']} can't be started: {error.strerror}", "log": []})
        return 1
    stay = Stay(job.get("entry_file"), job["log"], server.end)
    threading.Thread(target=_end_with_the_parent, args=(stay, server), daemon=True).start()
    port = server.wait_until_ready()
    if port is None:
        code, words = server.wait()
        if code < 0:
            return _die_as(code, words)
        _say(channel, {"failed": f"exit code {code}", "log": list(filter(None, (why(*given), words)))})
        return 1
    ready = {"port": port, "chat_template": job["chat_template"], "build": job["build"], "pid": server.pid}
    _say(channel, {"ready": ready})
    stay.begin(ready, channel)
    return _die_as(*server.wait())


def _end_with_the_parent(stay: Stay, server: LlamaServer) -> None:
    sys.stdin.read()
    if not stay.has_begun:
        server.end()
        os._exit(0)


def _say(channel: TextIO, message: Mapping[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


def _die_as(code: int, words: str) -> int:
    """Ends this process as llama-server did: whoever asks why hears of the same signal."""
    if words:
        print(words, file=sys.stderr, flush=True)  # noqa: T201
    if code < 0:
        os.kill(os.getpid(), -code)
    return 1


if __name__ == "__main__":
    sys.exit(main())
