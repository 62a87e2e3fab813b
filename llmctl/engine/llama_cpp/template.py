"""Renders a model's chat template in a process of its own.

A template is a program that came with a file: it may multiply strings, loop, or compute a power for hours while it
holds the interpreter. Its process has a limit of memory, and is ended when it takes too long or its parent ends.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from llmctl import child
from llmctl.confinement import NetworkAccess, confine
from llmctl.engine.llama_cpp.rendering import Messages, RenderedPrompt, TemplateError, compiled, written
from llmctl.struct import asdict

DEADLINE_S = 5.0  # a template takes milliseconds
MEMORY_BYTES = 256 << 20  # more than the process had when it began
TOO_MUCH_MEMORY = f"needs more than {MEMORY_BYTES >> 20} MB of memory"
LENGTH = struct.Struct("!Q")


class Renderer:
    """The process that renders. Made before a model is loaded, it costs a fork. Where it had to be ended, each prompt
    has a process of its own: the template is one that takes too much."""

    def __init__(self) -> None:
        self._process = _forked() if hasattr(os, "fork") else None

    def prepare(self, template: str) -> None:
        """Lets the process compile the template; doesn't wait for it."""
        if self._process is not None:
            with suppress(OSError):
                _send(self._process.to, {"template": template})

    def render(
        self,
        template: str,
        messages: Messages,
        variables: Mapping[str, Any],
        *,
        has_chatml: bool,
        tools: Sequence[Mapping[str, Any]] = (),
        continues: bool = False,
    ) -> RenderedPrompt:
        """The prompt; with ``continues`` it ends with the words of the last message. ``has_chatml``: what takes the
        place of a broken template may be ChatML, its marks are tokens of the model. Raises TemplateError."""
        asked = {"template": template, "messages": messages, "variables": variables, "has_chatml": has_chatml}
        asked |= {"tools": list(tools), "continues": continues}
        process = self._process or _spawned()
        answer = process.ask(asked)
        if answer is None or process is not self._process:
            self._process = None
            process.end()
        if answer is None:
            raise TemplateError(f"takes longer than {DEADLINE_S:g} s" if process.was_late else TOO_MUCH_MEMORY)
        if "error" in answer:
            raise TemplateError(answer["error"])
        return RenderedPrompt(**answer)

    def close(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


class _Process:
    """``to`` and ``source`` are our ends of its pipes; ``wait`` returns when it has ended."""

    def __init__(self, pid: int, to: BinaryIO, source: BinaryIO, wait: Callable[[], object]) -> None:
        self.to, self.source = to, source
        self._pid = pid
        self._wait = wait
        self.was_late = False

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any] | None:
        """Its answer; None if it has ended, or had to be since it was late."""
        clock = threading.Timer(DEADLINE_S, self._too_late)
        clock.start()
        try:
            _send(self.to, message)
            return _receive(self.source)
        except OSError:
            return None
        finally:
            clock.cancel()
            clock.join()

    def _too_late(self) -> None:
        self.was_late = True
        self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)

    def end(self) -> None:
        """Nobody waits for the process before, so that its number is nobody else's until here."""
        self._kill()
        self._wait()
        for pipe in (self.to, self.source):
            with suppress(OSError):
                pipe.close()


def _forked() -> _Process:
    """A copy of this process as it is now; it must not have other threads that matter."""
    parent = os.getpid()
    (read_request, write_request), (read_answer, write_answer) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child.end_with_parent(parent)
            os.close(write_request)
            os.close(read_answer)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(nowhere, number)
            serve(os.fdopen(read_request, "rb"), os.fdopen(write_answer, "wb"))
        finally:
            os._exit(0)
    os.close(read_request)
    os.close(write_answer)
    return _Process(pid, os.fdopen(write_request, "wb"), os.fdopen(read_answer, "rb"), lambda: os.waitpid(pid, 0))


def _spawned() -> _Process:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "llmctl.engine.llama_cpp.template", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return _Process(process.pid, cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout), process.wait)


def _send(pipe: BinaryIO, message: Mapping[str, Any]) -> None:
    data = json.dumps(message).encode()
    pipe.write(LENGTH.pack(len(data)) + data)
    pipe.flush()


def _receive(pipe: BinaryIO) -> dict[str, Any] | None:
    """None at the end."""
    length = pipe.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    data = pipe.read(*LENGTH.unpack(length))
    try:
        message: dict[str, Any] = json.loads(data)
    except ValueError:  # the rest is missing
        return None
    return message


def serve(source: BinaryIO, to: BinaryIO) -> None:
    """The process's own side: answers until the other end is closed."""
    _limit_memory()
    confine(network=NetworkAccess.NOTHING_NEW)
    while (asked := _receive(source)) is not None:
        try:
            if "messages" not in asked:
                with suppress(Exception):  # it is told when there is a prompt to render
                    compiled(asked["template"])
                continue
            answer = asdict(written(asked))
        except TemplateError as error:
            answer = {"error": str(error)}
        except MemoryError:
            answer = {"error": TOO_MUCH_MEMORY}
        _send(to, answer)


def _limit_memory() -> None:
    """MEMORY_BYTES more than this process has by now, where the system tells and can limit it."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))


if __name__ == "__main__":
    child.end_with_parent(int(sys.argv[1]))
    serve(sys.stdin.buffer, sys.stdout.buffer)
