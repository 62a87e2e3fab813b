"""``llmctl models rm`` and ``llmctl models prune``: what goes, what that frees, and only after a yes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.cli.table import table
from llmctl.errors import UsageError
from llmctl.shell import command

if TYPE_CHECKING:
    from llmctl.workspace.inventory import Item
    from llmctl.workspace.remove import Leftover

WHY = {
    "partial": "a download that was broken off",
    "orphan": "nothing points to it",
    "superseded": "a newer revision is here",
}


def rm(
    name: Annotated[str, typer.Argument(metavar="NAME[:QUANT]", help="What to remove.", autocompletion=complete.held)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Remove a model from this machine, all its quantizations without QUANT.

    \b
    Examples:
      llmctl models rm qwen3.5-4b:Q8_0
      llmctl models rm org/name --yes

    Removes files of the hub cache, also for the other tools that share it, and of llmctl's own folder. On a terminal
    it shows what goes and asks; elsewhere it needs --yes. What ollama, LM Studio or llama.cpp hold is theirs to remove.

    Exit codes: 0 removed, or you said no, 2 nobody said yes, or it is another tool's, 4 no such model here, 7 it is
    being written, or can't be removed.
    """
    from llmctl.workspace import remove, situation

    out = Output("models rm", as_json=json)
    shelf = situation.shelf(out)
    removal = remove.removal(shelf, name)
    going, size = removal.going, units.size(removal.bytes)
    if not yes:
        _show(out, going)
        if not _agreed(out, f"Remove {'it' if len(going) == 1 else f'these {len(going)}'}, {size}?", name, "rm", size):
            return
    freed_bytes = remove.remove(shelf, removal)
    out.note(f"Removed {', '.join(item.label for item in going)}: {units.size(freed_bytes)} freed")
    for item in removal.staying:
        out.note(f"{item.owner.label} still has {item.files[0].name}")
    rows = [{"name": item.name, "quant": item.quant, "owner": item.owner, "bytes": item.bytes} for item in going]
    out.data({"removed": rows, "freed_bytes": freed_bytes})


def prune(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it without asking.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show what the store holds and nobody needs, and remove it after a yes.

    \b
    Examples:
      llmctl models prune          a terminal is asked, elsewhere it only shows
      llmctl models prune --yes

    That is: downloads that were broken off, files of the hub cache that nothing points to, and those that a newer
    revision has replaced. Only GGUF files of the hub cache and of llmctl's own folder are looked at, never another
    tool's; what a running download is writing is let alone.

    Exit codes: 0, 7 something couldn't be removed.
    """
    from llmctl.workspace import remove, situation

    out = Output("models prune", as_json=json)
    shelf = situation.shelf(out)
    unneeded = remove.leftovers(shelf)
    total_bytes = sum(leftover.bytes for leftover in unneeded)
    if not json:
        for line in table(
            [(leftover.kind, leftover.name, units.size(leftover.bytes), WHY[leftover.kind]) for leftover in unneeded],
            "<<><",
        ):
            out.text(line)
    if not unneeded:
        out.note("There is nothing to remove.")
    removed = bool(unneeded) and (yes or _confirmed(out, f"Remove {_count(unneeded)}, {units.size(total_bytes)}?"))
    freed_bytes, failed = remove.clear(out, shelf, unneeded if removed else ())
    if removed:
        out.note(f"{units.size(freed_bytes)} freed")
    elif unneeded:
        out.note(f"{_count(unneeded)}, {units.size(total_bytes)}. Nothing was removed: llmctl models prune --yes")
    rows = [
        {"kind": leftover.kind, "name": leftover.name, "bytes": leftover.bytes, "paths": leftover.paths}
        for leftover in unneeded
    ]
    data = {"leftovers": rows, "bytes": total_bytes, "removed": removed, "freed_bytes": freed_bytes}
    if failed is not None:
        out.failed(failed, data)
        raise typer.Exit(failed.exit_code)
    out.data(data)


def _count(unneeded: Sequence[Leftover]) -> str:
    return units.number_of(len(unneeded), "leftover")


def _show(out: Output, items: Sequence[Item]) -> None:
    for line in table([(item.label, units.size(item.bytes), item.owner.label) for item in items], "<><"):
        out.note(line)


def _agreed(out: Output, question: str, name: str, verb: str, size: str) -> bool:
    """Whether the person at the terminal says yes. Raises UsageError where there is none."""
    if not out.interactive:
        raise UsageError(
            f"removing {name} would free {size}, and nobody said yes",
            hint=command("llmctl", "models", verb, "--yes", names=[name]),
        )
    return _confirmed(out, question)


def _confirmed(out: Output, question: str) -> bool:
    """Enter is no: what is removed has to be fetched again."""
    return out.interactive and typer.confirm(question, default=False, err=True)
