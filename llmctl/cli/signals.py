"""SIGTERM and SIGHUP end a command as Ctrl-C does: its engine goes, what has left is written down, and an answer that
was begun stays."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

NAMES = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP


class Terminated(KeyboardInterrupt):
    """Somebody wants the command to end, and not only what it does now."""


@dataclass
class Received:
    """The signal that has ended the command; None as long as there was none."""

    number: int | None = None

    @property
    def name(self) -> str:
        """What stopped the command, for a person."""
        return "Ctrl-C" if self.number is None else signal.Signals(self.number).name

    @property
    def exit_code(self) -> int | None:
        return None if self.number is None else 128 + self.number


@contextmanager
def raised() -> Iterator[Received]:
    """The first of those signals raises Terminated meanwhile; another one ends the process at once. What is ignored, as
    nohup has it, stays so."""
    received = Received()

    def terminate(number: int, _: FrameType | None) -> None:
        received.number = number
        signal.signal(number, signal.SIG_DFL)
        raise Terminated

    numbers = [number for name in NAMES if (number := getattr(signal, name, None)) is not None]
    is_main = threading.current_thread() is threading.main_thread()
    heard = [number for number in numbers if is_main and signal.getsignal(number) is signal.SIG_DFL]
    for number in heard:
        signal.signal(number, terminate)
    try:
        yield received
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_DFL)
