"""What ``embed`` and ``rerank`` have in common: their texts, what a person hears, how far the work is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llmctl import units
from llmctl.cli.output import Output, colour
from llmctl.errors import UsageError

if TYPE_CHECKING:
    from llmctl.settings import Settings
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


def with_options(loaded: Settings, command: str, *, offline: bool, keep_alive: str | None) -> Settings:
    """Raises UsageError for a duration that is none."""
    from msgspec.structs import replace

    from llmctl.settings.table import DURATIONS

    loaded = replace(loaded, offline=loaded.offline or offline)
    if keep_alive is None:
        return loaded
    try:
        return replace(loaded, keep_alive=units.duration_s(keep_alive))
    except ValueError as error:
        message = f"--keep-alive is {keep_alive!r}, it must be {DURATIONS}"
        raise UsageError(message, hint=f"llmctl {command} --help") from error


def require_name(option: str, value: str | None, command: str) -> None:
    """Raises UsageError for an option that was given nothing, as by an empty variable."""
    if value is not None and not value.strip():
        raise UsageError(f"{option} was given an empty name", hint=f"llmctl {command} --help")


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
