"""``llmctl ps``: the engines that stay loaded, and the gateways that run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl import units
from llmctl.cli.output import Output
from llmctl.cli.table import table

if TYPE_CHECKING:
    from llmctl.workspace.engines import StayingEngine
    from llmctl.workspace.gateways import RunningGateway

GATEWAY_HEADS = ("serve", "since", "models")
HEADS = ("model", "engine", "memory", "users", "context", "idle", "ends in")


def ps(json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False) -> None:
    """List the engines that are loaded, with their memory and when they end, and the gateways of `llmctl serve`.

    \b
    Example:
      llmctl run --keep-alive 5m "Why is the sky blue?"
      llmctl ps

    Below a gateway stand the engines that it has loaded now, as well. An engine that stays answers up to four requests
    at once, as memory allows, each in the whole context that is shown. Its address answers only to the token that
    llmctl keeps beside it. Changes nothing but that what a killed engine or gateway has left behind is removed.

    Exit codes: 0 also when there is none.
    """
    from llmctl.workspace import engines, gateways

    out = Output("ps", as_json=json)
    staying, running = engines.staying(), gateways.running()
    if running:
        for line in table([GATEWAY_HEADS, *map(_gateway_row, running)], "<><"):
            out.text(line)
    if staying:
        for line in table([HEADS, *map(_row, staying)], "<<>><>>", gap=1):
            out.text(line)
    elif not running:
        out.note("No engine stays loaded. One does after: llmctl run --keep-alive 5m …")
    out.data({"engines": staying, "gateways": [_document(gateway) for gateway in running]})


def _gateway_row(gateway: RunningGateway) -> tuple[str, ...]:
    since = units.ago(time.time() - gateway.since_s)
    models = ", ".join(f"{model.name} ({units.number_of(model.users, 'user')})" for model in gateway.models)
    return gateway.address, since, models


def _document(gateway: RunningGateway) -> Mapping[str, Any]:
    """Without the key."""
    return {
        "address": gateway.address,
        "pid": gateway.pid,
        "since_s": round(gateway.since_s),
        "models": [
            {"name": model.name, "quant": model.quant, "context": model.context, "users": model.users}
            for model in gateway.models
        ],
        "log": gateway.log,
    }


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
