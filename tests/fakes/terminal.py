"""A real process at a real pseudo-terminal: what a person types, and what stands on the screen afterwards.

with Terminal("chat", "--endpoint", "desk") as terminal:
    terminal.see("you ›")
    terminal.send("hello\r")
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.fakes.command import preloaded
from tests.fakes.preloaded import Preloaded

SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[()][0-9A-Z]|[=>78])")
PASTE_BEGIN, PASTE_END = "\x1b[200~", "\x1b[201~"


class Terminal:
    """80 columns and 24 lines, unless resized. ``shown`` is all that was written, without terminal sequences."""

    def __init__(self, *arguments: str, prefix: Sequence[str] = (), **environment: str) -> None:
        """``prefix`` is a command that runs the interpreter."""
        self._mine, theirs = pty.openpty()
        self.resize(80, 24)
        self._own = Preloaded(*prefix) if prefix else None
        self.process = (self._own or preloaded(environment)).start(
            *arguments,
            streams=dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
            new_session=True,
            environment={"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **environment},
        )
        os.close(theirs)
        self._bytes = bytearray()
        self._seen = 0
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._mine, 65536)
            except OSError:  # nobody has the other end any more
                return
            if not piece:
                return
            self._bytes += piece

    @property
    def raw(self) -> str:
        return bytes(self._bytes).decode("utf-8", "replace")

    @property
    def shown(self) -> str:
        return SEQUENCE.sub("", self.raw).replace("\r", "")

    def see(self, pattern: str, *, within_s: float = 60) -> re.Match[str]:
        """Waits until ``pattern`` is shown behind what was seen before."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            text = self.shown
            if match := re.compile(pattern).search(text, self._seen):
                self._seen = match.end()
                return match
            if self.process.poll() is not None and not self._reading.is_alive():
                break
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} is not shown, but: {self.shown[self._seen :]!r}")

    def send(self, keys: str) -> None:
        os.write(self._mine, keys.encode())

    def paste(self, text: str) -> None:
        """As a terminal does that marks what was pasted; its line ends arrive as carriage returns."""
        data = (PASTE_BEGIN + text.replace("\n", "\r") + PASTE_END).encode()
        while data:
            data = data[os.write(self._mine, data[:1024]) :]

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._mine, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def ended(self, *, within_s: float = 60) -> int:
        """The exit code."""
        return self.process.wait(timeout=within_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.__exit__(None, None, None)
        self._reading.join(timeout=5)
        os.close(self._mine)
        if self._own is not None:
            self._own.close()
