"""``llmctl models list``: what is on this machine and whose it is; with ``--all``, what the catalogue knows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.cli.table import table
from llmctl.errors import UsageError
from llmctl.types.openness import DIMENSIONS, NEEDED, Level

if TYPE_CHECKING:
    from llmctl.types.model import Model
    from llmctl.workspace.inventory import Item
    from llmctl.workspace.models import Finder


def list_(
    everything: Annotated[bool, typer.Option("--all", "-a", help="The models of the catalogue; * is here.")] = False,
    open_: Annotated[
        Level | None, typer.Option("--open", help="With --all: those that are graded as open as this.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence", metavar="SPDX", help="With --all: those under this licence.", autocompletion=complete.licences
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """List the models on this machine: quantization, size, when llmctl ran them last, and whose they are.

    \b
    Examples:
      llmctl models list
      llmctl models list --all        what could be fetched, smallest first
      llmctl models list --all --open data --licence apache-2.0
      llmctl run -m NAME:QUANT "…"    any of them

    \b
    --open weights   anybody may fetch the weights
           data      and can inspect what they were trained and tuned on
           full      and has base weights, training code and an open licence

    Only what the European Open Source AI Index grades open counts, not partly open; `models show` has all grades.

    What ollama, LM Studio and llama.cpp hold is listed and used where it lies; llmctl never changes it.

    Reads files only, no weights. Exit codes: 0, 2 a filter without --all, 4 no model of the catalogue passes it.
    """
    from llmctl.workspace import situation

    out = Output("models list", as_json=json)
    if (open_ or licence) and not everything:
        raise UsageError("--open and --licence filter the catalogue", hint="llmctl models list --all --open weights")
    shelf = situation.shelf(out)
    if everything:
        _all(out, _filtered(out, shelf.catalogue.models, open_, licence), shelf.store.find)
        return
    items = shelf.items()
    now_s = time.time()
    rows = [_held(item, shelf.store.last_used(item.path)) for item in items]
    total_bytes = sum(item.bytes for item in items)
    out.data({"models": rows, "total_bytes": total_bytes})
    if not items:
        out.note("No model is on this machine yet.")
        out.note("  next: llmctl models list --all   or   llmctl plan")
        return
    cells = [("name", "quant", "size", "last used", "whose")]
    for item in items:
        used_s = shelf.store.last_used(item.path)
        used = units.ago(None if used_s is None else now_s - used_s)
        cells.append((item.name, _quant(item), units.size(item.bytes), used, _whose(item)))
    for line in table(cells, "<<><<"):
        out.text(line)
    out.note(f"{units.number_of(len(items), 'model')}, {units.size(total_bytes)}")


def _quant(item: Item) -> str:
    parts = len(item.files)
    return f"{item.quant} ({parts} of {parts + item.missing} parts)" if item.missing else item.quant


def _whose(item: Item) -> str:
    return f"{item.owner.label}, replaced" if item.older else item.owner.label


def _held(item: Item, used_s: float | None) -> dict[str, Any]:
    return {
        "name": item.name,
        "quant": item.quant,
        "bytes": item.bytes,
        "owner": item.owner,
        "last_used": None if used_s is None else datetime.fromtimestamp(used_s, UTC).isoformat(timespec="seconds"),
        "path": item.path,
        "files": [file.path for file in item.files],
        "missing_parts": item.missing,
        "projector": item.projector,
        "replaced": item.older,
        "in_catalogue": item.model is not None,
        "source": item.files[0].source,
    }


def _filtered(out: Output, models: Sequence[Model], level: Level | None, licence: str | None) -> list[Model]:
    """Those that pass, and a word on what that means. Raises NotFoundError if none does."""
    from llmctl.workspace.models import admits, open_models

    admitted = open_models(models, level, licence)
    if level is not None:
        words = ", ".join(DIMENSIONS[name] for name in DIMENSIONS if name in NEEDED[level])
        ungraded = sum(model.openness is None for model in models if admits(model, licence=licence))
        relatives = sum(model.openness is not None and model.openness.match != "exact" for model in admitted)
        out.note(
            f"{len(admitted)} with {words} graded open, {relatives} of them by a relative's grades; "
            f"{ungraded} more were not graded"
        )
    return admitted


def _all(out: Output, every: Sequence[Model], find: Finder) -> None:
    models = sorted(every, key=lambda model: (model.parameters or 0, model.id))
    rows = [row(model, find) for model in models]
    out.data({"models": rows})
    for line in _lines(rows):
        out.text(line)


def row(model: Model, find: Finder) -> dict[str, Any]:
    from llmctl.workspace.document import model_document

    return {
        **model_document(model),
        "quants": [artifact.quant for artifact in model.artifacts],
        "installed": [artifact.quant for artifact in model.artifacts if find(artifact.source) is not None],
    }


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    cells = [("id", "size", "context", "licence", "quants (* is here)")]
    for row in rows:
        quants = " ".join(f"{quant}*" if quant in row["installed"] else quant for quant in row["quants"])
        licence = (row["licence"] or "unknown").removeprefix("LicenseRef-")
        cells.append((row["id"], parameters(row["parameters"]), units.count(row["context"]), licence, quants))
    yield from table(cells, "<>><<", gap=1)


def parameters(count: int | None) -> str:
    if count is None:
        return "?"
    return f"{count / 1e6:.0f}M" if count < 999_500_000 else f"{count / 1e9:.1f}B"
