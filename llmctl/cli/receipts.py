"""``llmctl receipts``: what left this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.cli.output import Output
from llmctl.cli.table import table
from llmctl.units import number_of

if TYPE_CHECKING:
    from llmctl.types.receipt import Receipt

HEADS = ("time (UTC)", "sent", "way", "outcome", "to: reason")


def receipts(
    last: Annotated[int | None, typer.Option("--last", min=1, metavar="N", help="The last N alone.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Whether lines were changed, moved or taken out since.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """List what was sent to servers of yours: when, to whom, how much and why, never a word of it.

    \b
    Examples:
      llmctl receipts --last 10
      llmctl receipts --verify

    Each prompt of which something was sent has a receipt, however it ended: answered, partial (an error came in the
    middle), failed or interrupted. What this machine answers by itself has none, nor has what a refused connection kept
    here. Each holds the sha256 of the one before, so that --verify finds lines that were changed, moved or taken out.
    It can't find out whether somebody who may write your files has written all of them anew. Sends and changes nothing.

    Exit codes: 0 also when there is none, 6 a line is not the one that was written, 7 the record can't be read.
    """
    from llmctl.errors import UsageError

    if verify and last is not None:
        raise UsageError("--verify looks at all receipts, --last at some", hint="llmctl receipts --verify")
    out = Output("receipts", as_json=json)
    if verify:
        _verify(out)
    else:
        _list(out, last)


def _list(out: Output, last: int | None) -> None:
    from llmctl.workspace import receipts as use_case

    record = use_case.read()
    shown = record.receipts if last is None else record.receipts[-last:]
    for number in record.unreadable:
        out.warn(f"line {number} of {use_case.file()} can't be read: llmctl receipts --verify")
    if shown:
        for line in table([HEADS, *map(_row, shown)], "<><<<"):
            out.text(line)
    elif not record.unreadable:
        out.note("No receipt: nothing was sent to a server yet.")
    if len(shown) < len(record.receipts):
        out.note(f"{len(shown):,} of {len(record.receipts):,} receipts")
    out.data({"receipts": shown})


def _row(receipt: Receipt) -> tuple[str, ...]:
    way = "TLS" if receipt.tls else "plain http"
    way = f"{way}, pin" if receipt.pin else way
    return (
        receipt.time.replace("T", " ").removesuffix("Z"),
        f"{receipt.bytes:,} B",
        way if receipt.sealed is None else f"{way}, sealed for {receipt.sealed[7:19]}",
        receipt.outcome,
        f"{receipt.endpoint} ({receipt.host}, {receipt.model}): {receipt.left_because}",
    )


def _verify(out: Output) -> None:
    """Raises Exit where the record is not what was written."""
    from llmctl.workspace import receipts as use_case

    verified = use_case.verify()
    data = {
        "lines": verified.lines,
        "unbroken": verified.error is None,
        "broken_line": verified.broken_line,
        "end_checked": verified.end_checked,
    }
    if verified.error is not None:
        out.failed(verified.error, data)
        raise typer.Exit(verified.error.exit_code)
    out.text(f"{number_of(verified.lines, 'receipt')}, unbroken")
    if verified.lines and not verified.end_checked:
        out.note(f"Whether some are gone from the end can't be told: {use_case.end_file()} is gone.")
    out.data(data)
