"""bash with llmctl on its PATH, each command of it forked from the interpreter that has imported llmctl.

with Shell(folder) as shell:
    done = shell.run("llmctl run 'hi' | wc -c")
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.fakes.command import preloaded

SIZE = struct.Struct("!q")
# Hands its folder, arguments, environment and streams over, and ends with the exit code of the command. Of a hundred of
# them the imports count: only what is built in.
CLIENT = """\
#!{python} -IS
import _socket, posix, sys
channel = _socket.socket(_socket.AF_UNIX)
channel.connect({address!r})
words = [word.encode("utf-8", "surrogateescape") for word in sys.argv[1:]]
variables = [name + b"=" + value for name, value in posix.environ.items()]
job = b"\\0".join([posix.getcwdb(), b"%d" % len(words), *words, *variables])
streams = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
channel.sendmsg([len(job).to_bytes(8, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
channel.sendall(job)
sys.exit(int(channel.recv(16) or b"1"))
"""


class Shell:
    """``folder`` is empty: llmctl's stand-in and its socket get there. ``environment`` is where a shell finds it."""

    def __init__(self, folder: Path) -> None:
        address = str(folder / "s")
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(address)
        self._listening.listen()
        command = folder / "llmctl"
        command.write_text(CLIENT.format(python=sys.executable, address=address), "utf-8")
        command.chmod(0o755)
        self.environment = {"PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
        threading.Thread(target=self._serve, daemon=True).start()

    def run(self, script: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs ``script``, which ends with its first failure. What a command writes to stderr comes in stdout."""
        return subprocess.run(
            ["bash", "--norc", "-euo", "pipefail", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=150,
            env={**os.environ, **(environment or {}), **self.environment},
        )

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                channel, _ = self._listening.accept()
                threading.Thread(target=_answer, args=(channel,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()


def _answer(channel: socket.socket) -> None:
    """Runs the command that has called, with its streams, and sends its exit code."""
    with channel:
        packed, numbers, *_ = socket.recv_fds(channel, SIZE.size, 3)
        (size,) = SIZE.unpack(packed)
        folder, count, *words = map(os.fsdecode, channel.recv(size, socket.MSG_WAITALL).split(b"\0"))
        arguments, variables = words[: int(count)], words[int(count) :]
        streams = dict(zip(("stdin", "stdout", "stderr"), numbers, strict=True))
        process = preloaded().start(
            *arguments,
            streams=streams,
            environment=dict(variable.split("=", 1) for variable in variables),
            folder=folder,
        )
        for number in numbers:
            os.close(number)
        with process:
            code = process.wait()
        channel.sendall(str(code if code >= 0 else 128 - code).encode())
