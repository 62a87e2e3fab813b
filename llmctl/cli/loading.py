"""How the loading of a model looks: a line that is written over on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from llmctl.cli.output import Output
from llmctl.types.listener import TellShare

SHOWN_AFTER_S = 0.5
LINE_EVERY_S = 5.0
CLEARED = "\r\x1b[K"


@contextmanager
def load_progress(out: Output, name: str) -> Iterator[TellShare]:
    """Shows "loading NAME 42 %" while the context lasts, unless it is short. Silent with --quiet and --json."""
    if out.quiet or out.as_json:
        yield lambda share: None
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _written_over(name) as tell:
            yield tell
    else:
        yield _lines(out, name)


@contextmanager
def _written_over(name: str) -> Iterator[TellShare]:
    begun_s, shown = time.monotonic(), ""

    def tell(share: float) -> None:
        nonlocal shown
        line = _line(name, share)
        if line != shown and time.monotonic() - begun_s >= SHOWN_AFTER_S:
            shown = line
            _write(CLEARED + line)

    try:
        yield tell
    finally:
        if shown:
            _write(CLEARED)


def _lines(out: Output, name: str) -> TellShare:
    said_s = time.monotonic()

    def tell(share: float) -> None:
        nonlocal said_s
        if time.monotonic() - said_s >= LINE_EVERY_S:
            said_s = time.monotonic()
            out.note(_line(name, share))

    return tell


def _line(name: str, share: float) -> str:
    return f"loading {name} {share:.0%}".replace("%", " %")


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
