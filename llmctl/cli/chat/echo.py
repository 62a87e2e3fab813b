"""What is typed while an answer is written: not shown in the middle of it, and there for the next prompt."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unechoed() -> Iterator[None]:
    """The terminal keeps what is typed to itself; Ctrl-C still interrupts. Nothing is changed on Windows."""
    try:
        import termios
    except ImportError:
        yield
        return
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    silent = list(before)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(file, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)
