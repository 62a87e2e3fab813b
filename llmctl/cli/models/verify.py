"""``llmctl models verify``: whether what is here is still what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.cli.table import table

if TYPE_CHECKING:
    from llmctl.workspace.inventory import Item
    from llmctl.workspace.verify import Verdict

WORDS = {
    "sound": "sound",
    "unchanged": "unchanged since it came, not checked against the publisher",
    "whole": "whole, not checked against the publisher",
    "unreadable": "can't be read",
    "wrong": "WRONG",
}


def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME[:QUANT]", help="One model.", autocompletion=complete.held)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Read every model on this machine, or one of them, and compare it with the sha256 that it must have.

    \b
    Examples:
      llmctl models verify
      llmctl models verify qwen3.5-4b:Q4_K_M

    The sha256 is what the store was told when the file came (hub cache, ollama, llmctl's own), else the catalogue's.
    What only a folder or you have vouched for is compared with what it was when it came, and where nobody knows a
    sha256, the file's own header is held against its length: neither is checked against the publisher. Changes nothing.

    Exit codes: 0 nothing is wrong, 4 no such model here, 6 a file is not what it must be.
    """
    from llmctl.workspace import situation
    from llmctl.workspace import verify as use_case

    out = Output("models verify", as_json=json)
    verified = use_case.verify(out, situation.shelf(out), name)
    verdicts = verified.verdicts
    data = {"files": [_document(item, verdict) for item, verdict in verdicts], "wrong": len(verified.wrong)}
    if verdicts and not json:
        for line in table([_row(item, verdict) for item, verdict in verdicts], "<><<"):
            out.text(line)
    if (error := verified.error) is None:
        out.data(data)
        return
    out.failed(error, data)
    raise typer.Exit(error.exit_code)


def _row(item: Item, verdict: Verdict) -> tuple[str, ...]:
    stored = verdict.stored
    name = item.label if len(item.files) == 1 else f"{item.label} {stored.path.name}"
    return name, units.size(stored.bytes), item.owner.label, WORDS[verdict.state]


def _document(item: Item, verdict: Verdict) -> dict[str, object]:
    return {
        "name": item.name,
        "quant": item.quant,
        "owner": item.owner,
        "path": verdict.stored.path,
        "bytes": verdict.stored.bytes,
        "state": verdict.state,
        "why": verdict.why,
        "sha256": verdict.sha256,
        "expected_sha256": verdict.expected,
    }
