"""The command line: one file per verb, options and printing only."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

INTERRUPTED = 130
PIPE_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``llmctl`` with ``argv`` (default: the process's) and returns the exit code of the contract."""
    with _ended_at_once():
        from llmctl.cli.app import main as run

    return run(argv)


@contextmanager
def _ended_at_once() -> Iterator[None]:
    """Ctrl-C ends the process without a word while nothing but imports goes on: raised in the middle of one, Python may
    show it, lose it, or make another error of it."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
