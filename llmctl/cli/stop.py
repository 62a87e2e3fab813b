"""``llmctl stop``: ends engines that stay loaded."""

from __future__ import annotations

from typing import Annotated

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.errors import UsageError


def stop(
    name: Annotated[
        str | None,
        typer.Argument(help="NAME or NAME:QUANT, as `llmctl ps` lists them.", autocompletion=complete.staying),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """End an engine that stays loaded, also while it answers, and free its memory.

    \b
    Examples:
      llmctl stop qwen3.5-4b
      llmctl stop --all

    The next `run` loads its model again. An answer that is cut off by this goes to no server.

    Exit codes: 0 ended (with --all also when there was none), 4 no such engine, 7 it does not end.
    """
    from llmctl.workspace import engines

    if (name is None) != every:
        raise UsageError("which engine: NAME, or --all, one of them", hint="llmctl ps")
    out = Output("stop", as_json=json)
    ended = engines.stop(name)
    for engine in ended:
        out.note(f"Ended {engine.name}: {units.size(engine.memory_bytes)} of memory are free again.")
    if not ended:
        out.note("No engine stays loaded.")
    out.data({"stopped": ended})
