"""``llmctl logs``: what gateways and engines say of themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.errors import UsageError


def logs(
    name: Annotated[
        str | None,
        typer.Argument(
            help="serve, an address or a model, as `llmctl ps` lists them.", autocompletion=complete.staying
        ),
    ] = None,
    most: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many, from the end.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="And those that come, until Ctrl-C.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show the log of a gateway that runs in the background, or of an engine.

    \b
    Examples:
      llmctl logs
      llmctl logs serve --follow
      llmctl logs qwen3.5-9b

    Without a name it is the gateway's, or that of the last one that has ended. A gateway writes when models are loaded
    and ended and what has failed; an engine llama.cpp's own lines while it loads, and errors. No log holds anything of
    a prompt or an answer. The last 20 of gateways are kept for a week, and of engines those that have failed.

    Exit codes: 0 shown, 4 there is none, 130 Ctrl-C with --follow.
    """
    from llmctl.workspace.logs import following, meant

    if follow and json:
        raise UsageError("--follow and --json exclude each other: a document has an end", hint="llmctl logs --help")
    out = Output("logs", as_json=json)
    log = meant(name)
    lines = log.lines(most)
    out.note(f"{log.path}")
    for line in lines:
        out.text(line)
    out.data({"kind": log.kind, "name": log.name, "path": log.path, "lines": lines})
    for line in following(log) if follow else ():
        out.text(line)
