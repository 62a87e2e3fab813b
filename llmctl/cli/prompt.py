"""The prompt of ``run``: files, what comes in on stdin, then the argument."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence

from msgspec import Struct

from llmctl.cli.output import Output
from llmctl.errors import UsageError
from llmctl.workspace import context_files, templates
from llmctl.workspace.templates import Template

SILENCE_S = 1.0  # then a person is told what llmctl is waiting for
LIMIT_BYTES = 64 << 20  # more than any context takes: the engine refuses it as well
PIECE_BYTES = 1 << 20


class Prompt(Struct, frozen=True):
    """``context`` is what stands before the question: files, then stdin. Without a question it is all there is."""

    context: str
    question: str
    template: Template | None = None

    def text(self, context: str | None = None) -> str:
        """The whole prompt, with another context if one is given."""
        parts = (self.context if context is None else context, self.question)
        text = "\n\n".join(part for part in parts if part.strip())
        return text if self.template is None else self.template.filled(text)


def prompt(
    out: Output,
    argument: str | None,
    *,
    no_stdin: bool,
    files: Sequence[str] = (),
    template: str | None = None,
) -> Prompt:
    """What is asked. stdin, if it is not a terminal, stands before the argument, files before both; ``-`` is stdin
    alone.

    With ``no_stdin`` stdin is left to whoever else reads it. Raises UsageError where there is no prompt, and what
    reading files and the template raises.
    """
    dash = argument == "-"
    if dash and no_stdin:
        raise UsageError(
            "- takes the prompt from stdin, which --no-stdin leaves alone", hint='llmctl run --no-stdin "…"'
        )
    read = [context_files.read(file) for file in files]
    chosen = None if template is None else templates.find(template)
    if chosen is not None and chosen.is_project:
        out.note(f"the template {template} is one of this folder ({templates.PROJECT_FOLDER})")
    piped = "" if no_stdin or (not dash and sys.stdin.isatty()) else _stdin(out).decode("utf-8-sig", "replace").strip()
    asked = "" if argument is None or dash else utf8(argument)
    if not (piped or asked.strip() or read):
        raise UsageError("there is no prompt", hint='llmctl run "Why is the sky blue?"')
    return Prompt(context_files.before(read, piped).strip(), asked, chosen)


def utf8(argument: str) -> str:
    """An argument as text that can be sent: bytes that are not UTF-8 become U+FFFD, as they do on stdin."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _stdin(out: Output) -> bytes:
    """All of stdin up to its end; nothing, with a warning, where it can't be read. Raises UsageError for more than
    LIMIT_BYTES, and where it breaks off: half a prompt is another one."""
    read, silent = bytearray(), False
    try:
        file = sys.stdin.fileno()
        while True:
            if not silent and not _arrives(file):
                silent = True
                out.note("waiting for stdin, which is open and says nothing … (--no-stdin leaves it alone)")
            piece = os.read(file, PIECE_BYTES)
            if not piece:
                return bytes(read)
            read += piece
            if len(read) > LIMIT_BYTES:
                raise UsageError(f"stdin brings more than {LIMIT_BYTES:,} bytes, which no context takes")
    except OSError as error:
        if read:
            raise UsageError(f"stdin broke off after {len(read):,} bytes: {error.strerror or error}") from error
        out.warn(f"stdin can't be read: {error.strerror or error}")
        return b""


def _arrives(file: int) -> bool:
    """Whether something arrives within SILENCE_S, be it the end. Where the system can't tell, it is taken to."""
    try:
        return bool(select.select([file], [], [], SILENCE_S)[0])
    except (OSError, ValueError):  # Windows: select is for sockets alone; Unix: a number of 1024 and above
        return True
