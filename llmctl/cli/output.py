"""The one sink. Commands hand it results; it decides between human words and the contract's JSON.

stdout carries the answer or the data; everything else goes to stderr. Nothing else prints but ``--version``.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from llmctl.cli.streams import stderr_error
from llmctl.cli.table import columns_of, wrapped
from llmctl.errors import LlmctlError, ResourceError
from llmctl.struct import names_of
from llmctl.types.listener import SilentListener

if TYPE_CHECKING:
    from rich.console import Console

    from llmctl.types.listener import Progress

SCHEMA = "llmctl/1"
YES_NO = " [Y/n]: "  # what typer puts behind a question
PIPE_WIDTH = 1000  # lines of data are never broken; tables take what they need


def jsonable(value: Any) -> Any:
    """Structs, mappings, sequences, sets (sorted), paths and enums as plain JSON values, field names kept."""
    if (names := names_of(value)) is not None:
        return {name: jsonable(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(jsonable(item) for item in value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no NaN, and a number that isn't one is not known
    return value


# Control characters can drive a terminal, and bidirectional overrides make text read as what it is not.
HARMFUL = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
del HARMFUL[ord("\n")], HARMFUL[ord("\t")]


def harmless(text: str) -> str:
    """Text as a terminal may show it; every script and emoji stays whole."""
    return text.translate(HARMFUL)


def _shown(text: str, stream: TextIO) -> str:
    return harmless(text) if stream.isatty() else text


def colour(stream: TextIO) -> bool:
    """NO_COLOR (non-empty) off; FORCE_COLOR on; TERM=dumb off; else whether it is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


@dataclass
class Output(SilentListener):
    """What one command says: a Listener (``Story`` is the one of an answer). ``as_json`` collects data and warnings for
    one document at the end."""

    command: str
    as_json: bool = False
    quiet: bool = False
    warnings: list[str] = field(default_factory=list)
    has_written: bool = field(default=False, init=False)  # the document of --json
    _is_line_open: bool = field(default=False, init=False)  # of the answer
    latest: ClassVar[Output]

    def __post_init__(self) -> None:
        Output.latest = self  # so that an error is told where the command has told its warnings

    @property
    def interactive(self) -> bool:
        """Whether a question may be asked at all."""
        return sys.stdin.isatty() and sys.stderr.isatty() and not self.as_json

    def note(self, text: str) -> None:
        """A line of the story, for a person. Silent with --quiet and with --json."""
        if not self.quiet and not self.as_json:
            _line(text)

    def unbroken(self, text: str) -> None:
        """A line of the story that is never broken: a command to be pasted, or what is laid out already."""
        if not self.quiet and not self.as_json:
            print(harmless(text), file=sys.stderr, flush=True)  # noqa: T201

    def warn(self, text: str) -> None:
        """Something that should be known: a line for a person, an entry of ``warnings`` in JSON."""
        self.warnings.append(text)
        if not self.as_json:
            _line(f"warning: {text}")

    def must_say(self, text: str) -> None:
        """What has to be said whatever was asked for: that a prompt is about to leave this machine. Raises
        ResourceError where it can't be said."""
        _line(text)
        if (error := stderr_error()) is not None:
            raise ResourceError(f"stderr can't be written, and this has to be said on it: {text}") from error

    def text(self, text: str) -> None:
        """The answer or the data, in words, on stdout: names of files too, which somebody else may have chosen."""
        if not self.as_json:
            print(_shown(text, sys.stdout), flush=True)  # noqa: T201

    def piece(self, text: str) -> None:
        """A bit of a streamed answer: on stdout, at once, without a newline."""
        self.write(_shown(text, sys.stdout))

    def end_pieces(self) -> None:
        """A final newline, so that what follows doesn't stand on the last line of the answer."""
        if self._is_line_open:
            self.write("\n")

    def write(self, text: str) -> None:
        """Text of the answer, which may hold terminal sequences of ours, on stdout at once."""
        if text and not self.as_json:
            self._is_line_open = not text.endswith("\n")  # before it is out: Ctrl-C may come right behind it
            sys.stdout.write(text)
            sys.stdout.flush()

    def thought(self, text: str) -> None:
        """A bit of a model's thinking: on stderr if somebody reads it there, never in the answer."""
        if sys.stderr.isatty() and not self.quiet and not self.as_json:
            sys.stderr.write(_shown(text, sys.stderr))
            sys.stderr.flush()

    def confirm(self, question: str, *, yes: bool, by_default: bool = True) -> bool:
        """Asks on stderr; Enter is yes unless said otherwise. With ``yes`` the question answers itself, and is still
        shown."""
        if yes:
            self.note(f"{question} yes (--yes)")
            return True
        import typer

        if sys.stderr.isatty():
            question = wrapped(question, columns_of(sys.stderr) - len(YES_NO))
        return typer.confirm(question, default=by_default, err=True)

    def progress(self, label: str, *, streams: bool = False, resumes: bool = True) -> AbstractContextManager[Progress]:
        """As ``cli.progress.transfer_progress``."""
        from llmctl.cli.progress import transfer_progress

        return transfer_progress(self, label, streams=streams, resumes=resumes)

    def console(self, *, stderr: bool = False) -> Console:
        """A rich console for tables and progress that obeys the colour rules and never wraps piped data."""
        from rich.console import Console

        stream = sys.stderr if stderr else sys.stdout
        columns = os.environ.get("COLUMNS", "")
        forced = bool(os.environ.get("FORCE_COLOR"))
        wanted = colour(stream)
        return Console(
            file=stream,
            force_terminal=wanted if forced else None,
            color_system="standard" if forced else "auto",  # else TERM=dumb would win over FORCE_COLOR
            no_color=not wanted,
            highlight=False,
            markup=False,
            emoji=False,
            width=None if stream.isatty() else int(columns) if columns.isdecimal() and columns != "0" else PIPE_WIDTH,
        )

    def data(self, data: Any, error: LlmctlError | None = None) -> None:
        """The envelope, once per command, with --json."""
        if self.as_json:
            self.has_written = True
            print(json.dumps(envelope(self.command, data, self.warnings, error)), flush=True)  # noqa: T201

    def interrupted(self, by: str = "Ctrl-C") -> None:
        """Ctrl-C, or the signal of that name: with --json the document, unless it was written before."""
        if self.as_json and not self.has_written:
            error = {"code": "interrupted", "message": f"stopped by {by}", "hint": None}
            print(json.dumps({**envelope(self.command, None, self.warnings), "error": error}), flush=True)  # noqa: T201

    def json_line(self, event: str, data: Mapping[str, Any]) -> None:
        """A line of JSON while something goes on, with --json; the document follows as the last line."""
        if self.as_json:
            line = {"schema": SCHEMA, "command": self.command, "event": event, **jsonable(data)}
            print(json.dumps(line), flush=True)  # noqa: T201

    def failed(self, error: LlmctlError, data: Any = None) -> None:
        """An error: the envelope with --json, else one line and the next command on stderr."""
        if self.as_json:
            self.data(data, error)
            return
        _line(f"error: {error.message}")
        if error.hint:
            print(harmless(f"  next: {error.hint}"), file=sys.stderr, flush=True)  # noqa: T201  # to be pasted: never broken


def _line(text: str) -> None:
    """A line on stderr: harmless, also in a file that somebody reads later; on a terminal broken between words."""
    text = harmless(text)
    if sys.stderr.isatty():
        indent = " " * (len(text) - len(text.lstrip()))
        text = "\n".join(wrapped(line, columns_of(sys.stderr), indent=indent) for line in text.split("\n"))
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def envelope(command: str, data: Any, warnings: Sequence[str], error: LlmctlError | None = None) -> dict[str, Any]:
    """The contract's document, see ``contract.md``."""
    return {
        "schema": SCHEMA,
        "command": command,
        "data": jsonable(data),
        "warnings": list(warnings),
        "error": None if error is None else {"code": error.code, "message": error.message, "hint": error.hint},
    }
