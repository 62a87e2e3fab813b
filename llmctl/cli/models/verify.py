"""``llmctl models verify``: whether what is here is still what it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.models.listing import table
from llmctl.cli.output import Output
from llmctl.errors import IntegrityError
from llmctl.shell import command

if TYPE_CHECKING:
    from llmctl.store.upkeep.verify import Verdict
    from llmctl.workspace.inventory import Item

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
    from llmctl.cli.progress import transfer_progress
    from llmctl.files.progress import shifted
    from llmctl.store.upkeep.verify import Soundness
    from llmctl.workspace import inventory, situation

    out = Output("models verify", as_json=json)
    shelf = situation.shelf(out)
    items = shelf.items() if name is None else inventory.named(shelf.items(), name)
    files = [(item, file) for item in items for file in item.files]
    total_bytes, done_bytes = sum(file.bytes for _, file in files), 0
    verdicts: list[tuple[Item, Verdict]] = []
    with transfer_progress(out, "Reading", resumes=False) as progress:
        for item, file in files:
            expected = item.sha256 if len(item.files) == 1 else None
            part = shifted(progress, done_bytes, total_bytes)
            verdicts.append((item, shelf.store.verify(file, expected, part)))
            done_bytes += file.bytes
    wrong = [(item, one) for item, one in verdicts if one.state is Soundness.WRONG]
    data = {"files": [_document(item, verdict) for item, verdict in verdicts], "wrong": len(wrong)}
    if verdicts and not json:
        for line in table([_row(item, verdict) for item, verdict in verdicts], "<><<"):
            out.text(line)
    if not wrong:
        out.data(data)
        return
    out.failed(_error(wrong, len(verdicts)), data)
    raise typer.Exit(IntegrityError.exit_code)


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


def _error(wrong: Sequence[tuple[Item, Verdict]], count: int) -> IntegrityError:
    from llmctl.types.model import SourceKind

    item, first = wrong[0]
    message = f"{item.label} is not what it must be: it {first.why}"
    if len(wrong) > 1:
        message = f"{len(wrong)} of {count} files are not what they must be; {item.label} {first.why}"
    if item.owner.foreign:
        return IntegrityError(message, hint=f"{item.owner.label} has to fetch {first.stored.name} again")
    remove = command("llmctl", "models", "rm", "--yes", names=[item.label])
    if first.stored.source.kind is SourceKind.LOCAL:
        return IntegrityError(message, hint=f"{remove}   and pull it again from where it came")
    return IntegrityError(message, hint=f"{remove} && {command('llmctl', 'pull', names=[item.label])}")
