"""``llmctl stop``: ends engines that stay loaded, and gateways."""

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
        typer.Argument(
            help="NAME or NAME:QUANT, as `llmctl ps` lists them; serve for a gateway.", autocompletion=complete.staying
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="All of them, and remove what is kept of prompts on disk.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """End an engine that stays loaded, also while it answers, or a gateway, and free its memory.

    \b
    Examples:
      llmctl stop qwen3.5-4b
      llmctl stop serve
      llmctl stop --all
      llmctl stop --forget

    A gateway lets its open answers finish, for half a minute; its address says which of several. The next `run` loads
    its model again. An answer that is cut off by this goes to no server. What an engine remembers of prompts ends with
    it; with the setting prompt_cache there are files of it, too, which --forget removes.

    Exit codes: 0 ended (with --all also when there was none), 2 several gateways run, 4 no such engine or gateway, 7 it
    does not end.
    """
    from llmctl.workspace import engines, gateways

    if (name is None) != (every or forget):
        raise UsageError("which engine: NAME, --all or --forget, one of them", hint="llmctl ps")
    out = Output("stop", as_json=json)
    meant = gateways.meant(name)
    gateways.stop(meant)
    for gateway in meant:
        out.note(f"Ended the gateway at {gateway.address}.")
    ended = [] if meant and name is not None else engines.stop(name)
    for engine in ended:
        out.note(f"Ended {engine.name}: {units.size(engine.memory_bytes)} of memory are free again.")
    if not ended and not meant:
        out.note("No engine stays loaded.")
    forgotten_bytes = engines.forget_prompts() if forget else None
    if forgotten_bytes is not None:
        removed = f"Removed what was kept of prompts on disk: {units.size(forgotten_bytes)}."
        out.note(removed if forgotten_bytes else "Nothing of prompts was kept on disk.")
    gone = [gateway.address for gateway in meant]
    out.data({"stopped": ended, "forgotten_bytes": forgotten_bytes, "gateways": gone})
