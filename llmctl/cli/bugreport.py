"""``llmctl bugreport``: what somebody needs who is to mend a fault."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmctl.cli.output import Output
from llmctl.shell import command

FILE = "llmctl-bugreport.md"
STDOUT = "-"


def bugreport(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Where to; - is stdout.")] = FILE,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Write a report for whoever is to mend a fault: one file, that you can read before you send it.

    \b
    Examples:
      llmctl bugreport
      llmctl bugreport - | less

    It holds versions, the settings and where each comes from, names of variables that are set, what `llmctl doctor`
    finds, and the log of the last engine that failed. Keys, tokens, the names of you, of this machine and of your
    servers, and your home folder are taken out; no prompt and no answer is in it. Nothing is sent anywhere; servers of
    yours are asked whether they answer, as by doctor.

    Exit codes: 0, 2 the file is there already, 7 it can't be written.
    """
    from llmctl.workspace import bugreport as use_case

    out = Output("bugreport", as_json=json)
    if file == STDOUT:
        report = use_case.text(out)
        out.text(report.rstrip("\n"))
        out.data({"file": None, "text": report})
        return
    use_case.write(out, Path(file), replacing=force)
    out.note(f"{file} is written. Read it, say at its head what happened, and send it where llmctl is kept.")
    out.note(f"  next: {command('less', names=[file])}")
    out.data({"file": str(Path(file).absolute()), "text": None})
