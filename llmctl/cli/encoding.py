"""What ``embed`` and ``rerank`` have in common: their texts, what a person hears, how far the work is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llmctl import units
from llmctl.cli.output import Output, colour

if TYPE_CHECKING:
    from llmctl.types.engine import LoadedEngine
    from llmctl.types.plan import Fit
    from llmctl.workspace.texts import GivenText

LINE_EVERY_S = 5.0
STDIN = "-"


class EncoderOutput(Output):
    """Says which model reads the texts."""

    def loaded(self, fit: Fit, engine: LoadedEngine) -> None:
        candidate = fit.candidate
        state = "already loaded" if engine.was_warm else f"loaded in {units.seconds(engine.load_s)}"
        self.note(f"{candidate.model.id} {candidate.artifact.quant} · local · {fit.context:,} tokens each · {state}")


def given_texts(arguments: Sequence[str], files: Sequence[str], *, plain: bool) -> list[GivenText]:
    """Of the command line and of files; stdin is read where it is named, or where nothing else is given and it is no
    terminal. Raises what ``texts.gathered`` raises."""
    from llmctl.cli.prompt import utf8
    from llmctl.workspace import texts

    reads_stdin = STDIN in files or STDIN in arguments or not (arguments or files or sys.stdin.isatty())
    return texts.gathered(
        [utf8(argument) for argument in arguments if argument != STDIN],
        [file for file in files if file != STDIN],
        sys.stdin.buffer if reads_stdin else None,
        plain=plain,
    )


@contextmanager
def counted(out: Output, label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows on stderr how many of ``total`` are done: a bar on a terminal, unless the results are shown there, a line
    every few seconds elsewhere."""
    if out.quiet or out.as_json:
        yield lambda done: None
    elif sys.stderr.isatty() and colour(sys.stderr) and not sys.stdout.isatty():
        with _bar(out, label, total) as show:
            yield show
    else:
        yield _lines(out, label, total)


def _lines(out: Output, label: str, total: int) -> Callable[[int], None]:
    said_s = time.monotonic()

    def show(done: int) -> None:
        nonlocal said_s
        if done < total and time.monotonic() - said_s >= LINE_EVERY_S:
            said_s = time.monotonic()
            out.note(f"{label}: {done:,} of {total:,}")

    return show


@contextmanager
def _bar(out: Output, label: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn())
    console = out.console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bars:
        task = bars.add_task(label, total=total)
        yield lambda done: bars.update(task, completed=done)
