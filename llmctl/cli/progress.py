"""How a transfer looks: a bar on a terminal, a line every few seconds elsewhere, nothing where nobody wants it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from llmctl import units
from llmctl.cli.output import Output
from llmctl.types.listener import Progress

LINE_EVERY_S = 5.0
EVENT_EVERY_S = 1.0


@contextmanager
def transfer_progress(out: Output, label: str, *, streams: bool = False, resumes: bool = True) -> Iterator[Progress]:
    """Shows what the store tells while the context lasts, then one line with the whole. Never goes backwards.

    Silent with --quiet, --json (unless the command ``streams`` it as JSON Lines) and HF_HUB_DISABLE_PROGRESS_BARS.
    After Ctrl-C it says what was kept, if the same command ``resumes`` there.
    """
    transfer = _Transfer(label, resumes)
    if out.as_json and streams:
        with _events(out, transfer) as progress:
            yield progress
        return
    if (
        out.quiet
        or out.as_json
        or os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS", "").upper() in ("1", "TRUE", "YES", "ON")
    ):
        yield transfer.note
        return
    shown = _bar if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else _lines
    try:
        with shown(out, transfer) as progress:
            yield progress
    except KeyboardInterrupt:
        out.note(transfer.stopped())
        raise
    if transfer.moved_bytes:
        out.note(transfer.summary())


class _Transfer:
    """What was told so far. ``done_bytes`` is the most there ever was: starting over is not shown as a loss."""

    def __init__(self, label: str, resumes: bool) -> None:
        self.label = label
        self.resumes = resumes
        self.first_bytes: int | None = None
        self.done_bytes = 0
        self.total_bytes: int | None = None
        self.begun_s = time.monotonic()

    def note(self, done_bytes: int, total_bytes: int | None, /) -> None:
        if self.first_bytes is None:  # what an earlier try has left says nothing about the rate
            self.first_bytes, self.begun_s = done_bytes, time.monotonic()
        self.done_bytes = max(self.done_bytes, done_bytes)
        self.total_bytes = total_bytes

    @property
    def moved_bytes(self) -> int:
        return self.done_bytes - (self.first_bytes or 0)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.begun_s

    @property
    def bytes_per_s(self) -> float | None:
        return self.moved_bytes / self.elapsed_s if self.moved_bytes and self.elapsed_s > 0 else None

    def document(self) -> dict[str, object]:
        rate = self.bytes_per_s
        left_s = None if rate is None or self.total_bytes is None else (self.total_bytes - self.done_bytes) / rate
        return {
            "name": self.label,
            "done_bytes": self.done_bytes,
            "total_bytes": self.total_bytes,
            "bytes_per_s": None if rate is None else round(rate),
            "left_s": None if left_s is None else round(left_s, 1),
        }

    def line(self) -> str:
        """Where it stands, in words: "Tiny 1B: 120 MB of 5.7 GB, 25 MB/s, 4 min left"."""
        if self.total_bytes is None:
            return f"{self.label}: {units.size(self.done_bytes)} so far"
        text = f"{self.label}: {units.size(self.done_bytes)} of {units.size(self.total_bytes)}"
        rate = self.bytes_per_s
        if rate is None:
            return text
        return f"{text}, {units.rate(rate)}, {units.seconds((self.total_bytes - self.done_bytes) / rate)} left"

    def summary(self) -> str:
        return f"{self.label}: {units.size(self.moved_bytes)} in {units.seconds(self.elapsed_s)}"

    def stopped(self) -> str:
        if self.total_bytes is None or not self.done_bytes or not self.resumes:
            return f"{self.label}: stopped"
        part = f"{units.size(self.done_bytes)} of {units.size(self.total_bytes)}"
        return f"{self.label}: stopped at {part}, which is kept: the same command goes on from there"


@contextmanager
def _events(out: Output, transfer: _Transfer) -> Iterator[Progress]:
    said_s: float | None = None
    told_bytes = 0

    def progress(done_bytes: int, total_bytes: int | None, /) -> None:
        nonlocal said_s, told_bytes
        transfer.note(done_bytes, total_bytes)
        now_s = time.monotonic()
        if said_s is None or now_s - said_s >= EVENT_EVERY_S:
            said_s = now_s
            told_bytes = transfer.done_bytes
            out.json_line("progress", transfer.document())

    yield progress
    if transfer.done_bytes > told_bytes:  # whoever reads along sees the end, too
        out.json_line("progress", transfer.document())


@contextmanager
def _lines(out: Output, transfer: _Transfer) -> Iterator[Progress]:
    said_s = time.monotonic()

    def progress(done_bytes: int, total_bytes: int | None, /) -> None:
        nonlocal said_s
        transfer.note(done_bytes, total_bytes)
        if time.monotonic() - said_s >= LINE_EVERY_S:
            said_s = time.monotonic()
            out.note(transfer.line())

    yield progress


@contextmanager
def _bar(out: Output, transfer: _Transfer) -> Iterator[Progress]:
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, TimeRemainingColumn(), console=out.console(stderr=True), transient=True) as bars:
        task = None

        def progress(done_bytes: int, total_bytes: int | None, /) -> None:
            nonlocal task
            transfer.note(done_bytes, total_bytes)
            if task is None:
                task = bars.add_task(transfer.label, total=total_bytes, completed=done_bytes)
            bars.update(task, completed=transfer.done_bytes, total=total_bytes)

        yield progress
