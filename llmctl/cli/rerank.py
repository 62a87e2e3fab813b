"""``llmctl rerank``: a query and documents in, the best documents out."""

from __future__ import annotations

import json as json_text
from typing import Annotated

import typer

from llmctl.cli import complete, options
from llmctl.cli.encoding import EncoderOutput, counted, given_texts
from llmctl.units import number_of


def rerank(
    query: Annotated[str, typer.Argument(help="What the documents are to answer.")],
    documents: Annotated[list[str] | None, typer.Argument(metavar="DOCUMENT", help="What to rank; - is stdin.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="A reranker: NAME[:QUANT] or FILE.gguf.", autocompletion=complete.models),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option("--file", "-f", metavar="FILE", help="JSON Lines with documents; - is stdin. Repeatable."),
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each line of a file or of stdin is a document.")] = False,
    top: Annotated[int | None, typer.Option("--top", "-n", min=1, help="The best so many alone.")] = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Leave out the end of a document that is too long.")
    ] = False,
    context: Annotated[
        int | None, typer.Option("--context", min=1, help="Tokens of query and document at most.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", "-t", min=1, help="Threads to compute with.")] = None,
    local: Annotated[bool, typer.Option("--local", help="On this machine, also where a policy wants servers.")] = False,
    keep_alive: options.KeepAlive = None,
    yes: options.Yes = False,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the documents.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, at the end.")] = False,
) -> None:
    """Order documents by how well they answer a query, with a reranker on this machine.

    \b
    Examples:
      llmctl rerank "capital of France" "Paris is a city." "The moon is far."
      llmctl rerank "how do I resume a download" -f passages.jsonl --top 5
      grep -rh TODO . | llmctl rerank "security" --lines -n 3 | jq -r .text

    A line of JSON Lines is a text ("…") or an object with "text" and perhaps an "id"; what else it has is left alone.
    On stdout comes a line for each document, the best first: id, index, score, text. A higher score is better; scores
    of two models can't be compared. A document that is longer than the context, together with the query, is refused
    with both numbers, unless you say --truncate.

    Without -m the best reranker on this machine is taken; if there is none, the best for it is offered for download
    (--yes: fetched). Nothing leaves this machine, whatever the policy is.

    Exit codes: 0 done, 2 a document is too long or is no text, 3 nothing fits or the model is for something else, 4 no
    such model (or it needs a download and nobody said yes), 5 network, 6 a broken download, 7 disk full, 8 the engine
    failed, 11 the policy wants servers alone, 130 Ctrl-C.
    """
    from llmctl.cli.prompt import utf8
    from llmctl.struct import asdict
    from llmctl.workspace.encoder import EncoderOptions
    from llmctl.workspace.rerank import ranking

    out = EncoderOutput("rerank", as_json=json, quiet=quiet)
    options.require_names("rerank", {"--model": model})
    given = given_texts(documents or (), file or (), plain=lines)
    loaded = options.settings_with(out, offline=offline, keep_alive=keep_alive)
    asked = EncoderOptions(model, context, threads, truncate, local, keep_alive is not None, yes)
    with counted(out, "ranking", len(given)) as show:
        ranked = ranking(out, loaded, utf8(query), given, asked, most=top, show=show)
    for result in ranked.results:
        out.text(json_text.dumps(asdict(result)))
    if ranked.truncated:
        cut = number_of(ranked.truncated, "document")
        out.warn(f"{cut} of {ranked.documents:,} cut off at the end: longer than the context")
    out.note(f"{number_of(ranked.documents, 'document')} · {ranked.tokens:,} tokens")
    out.data(ranked)
