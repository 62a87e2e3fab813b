"""``llmctl ps``: the engines that stay loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmctl import units
from llmctl.cli.output import Output
from llmctl.cli.table import table

if TYPE_CHECKING:
    from llmctl.workspace.engines import StayingEngine

HEADS = ("model", "engine", "memory", "users", "context", "idle", "ends in")


def ps(json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False) -> None:
    """List the engines that stay loaded after an answer, with their memory and when they end.

    \b
    Example:
      llmctl run --keep-alive 5m "Why is the sky blue?"
      llmctl ps

    An engine that stays answers up to four requests at once, as memory allows, each in the whole context that is shown.
    --json has the address of each, which answers only to the token that `llmctl env` shows. Changes nothing but that
    what a killed engine has left behind is removed.

    Exit codes: 0 also when there is none.
    """
    from llmctl.workspace import engines

    out = Output("ps", as_json=json)
    staying = engines.staying()
    if staying:
        for line in table([HEADS, *map(_row, staying)], "<<>><>>", gap=1):
            out.text(line)
    else:
        out.note("No engine stays loaded. One does after: llmctl run --keep-alive 5m …")
    out.data({"engines": staying})


def _row(engine: StayingEngine) -> tuple[str, ...]:
    return (
        f"{engine.model} {engine.quant}",
        engine.engine.partition(" ")[0],
        units.size(engine.memory_bytes),
        f"{engine.users} of {engine.sequences}",
        f"{engine.context:,}",
        "in use" if engine.users else units.seconds(engine.idle_s),
        _ends_in(engine),
    )


def _ends_in(engine: StayingEngine) -> str:
    if engine.keep_alive_s is None:
        return "never"
    return "–" if engine.ends_in_s is None else units.seconds(engine.ends_in_s)
