"""``llmctl search``: passages of the user's own texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.cli import complete, options
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
    by_words: Annotated[bool, typer.Option("--words", help="By words alone: loads no model.")] = False,
    rerank: Annotated[bool, typer.Option("--rerank", help="Let a reranker order what was found.")] = False,
    reranker: Annotated[
        str | None,
        typer.Option("--reranker", metavar="MODEL", help="Which one.", autocompletion=complete.models),
    ] = None,
    private: options.Private = False,
    yes: options.Yes = False,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the passages.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Search your own texts, and show the passages that answer best. No model writes anything.

    \b
    Examples:
      llmctl search ~/notes rent deposit
      llmctl search mail "when does the insurance end?" --json
      llmctl search ~/notes --rerank "what did we pay for the flat?"

    A folder without an index gets one first. Each passage comes with its file, its lines and a score from 0 to 1, to be
    compared within one search. Words are words here: no sign means anything. An index with vectors (llmctl index add
    --vectors) finds other words and other languages, too. Nothing leaves this machine, unless a server makes those
    vectors: then the question goes there, as you have agreed, but for what is --private.

    Exit codes: 0 also when nothing was found, 2 no words, 4 no such folder or index, 6 the index is broken, 7 it can't
    be written, 9 the folder may not be listed; with --rerank also those of `llmctl rerank`.
    """
    from llmctl.cli.prompt import utf8
    from llmctl.workspace import search as use_case
    from llmctl.workspace.search import SearchOptions

    out = Output("search", as_json=json, quiet=quiet)
    options.require_names("search", {"--reranker": reranker})
    loaded = options.settings_with(out, offline=offline, keep_alive=None)
    index = use_case.current(out, loaded, name, update=update)
    wanted = SearchOptions(limit, by_words, private, reranker or ("" if rerank else None), yes)
    answer = use_case.search(out, loaded, index, " ".join(map(utf8, words)), wanted)
    for hit in answer.results:
        _show(out, hit)
    if not answer.results:
        out.note(f"none of {number_of(answer.searched, 'passage')} of {answer.index} has one of these words")
    elif not answer.is_about:
        out.note("none of these seems to be about it")
    out.data(answer)


def _show(out: Output, hit: SearchHit) -> None:
    out.text(f"{printable(hit.file)}:{hit.from_line}-{hit.to_line}  {hit.score:.2f}")
    for line in hit.text.splitlines():
        out.text(f"    {line}")
    out.text("")
