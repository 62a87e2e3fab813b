"""``llmctl search``: passages of the user's own texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.printable import printable
from llmctl.units import number_of

if TYPE_CHECKING:
    from llmctl.workspace.search import SearchHit


def search(
    name: Annotated[
        str, typer.Argument(metavar="FOLDER | INDEX", help="Where to look.", autocompletion=complete.indexes)
    ],
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="What to look for: words, or a question.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="So many passages at most.")] = 5,
    update: Annotated[bool, typer.Option("--update/--no-update", help="First read what is new or has changed.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the passages.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Search your own texts, and show the passages that answer best. No model writes anything.

    \b
    Examples:
      llmctl search ~/notes rent deposit
      llmctl search mail "when does the insurance end?" --json

    A folder without an index gets one first. Each passage comes with its file, its lines and a score from 0 to 1, to be
    compared within one search. Words are words here: no sign means anything. Nothing leaves this machine.

    Exit codes: 0 also when nothing was found, 2 no words, 4 no such folder or index, 6 the index is broken, 7 it can't
    be written, 9 the folder may not be listed.
    """
    from llmctl.cli.prompt import utf8
    from llmctl.workspace import search as use_case

    out = Output("search", as_json=json, quiet=quiet)
    index = use_case.current(out, name, update=update)
    answer = use_case.search(index, " ".join(map(utf8, words)), most=limit)
    for hit in answer.results:
        _show(out, hit)
    if not answer.results:
        out.note(f"none of {number_of(answer.searched, 'passage')} of {answer.index} has one of these words")
    out.data(answer)


def _show(out: Output, hit: SearchHit) -> None:
    out.text(f"{printable(hit.file)}:{hit.from_line}-{hit.to_line}  {hit.score:.2f}")
    for line in hit.text.splitlines():
        out.text(f"    {line}")
    out.text("")
