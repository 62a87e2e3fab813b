"""``llmctl models search``: the catalogue by a few words."""

from __future__ import annotations

from typing import Annotated

import typer

from llmctl import units
from llmctl.cli.models.listing import parameters, row
from llmctl.cli.output import Output
from llmctl.cli.table import table


def search(
    words: Annotated[list[str], typer.Argument(help="Of names, publishers, tasks, languages, licences.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Search the catalogue: models that all the words are true of, in any case and spelling.

    \b
    Examples:
      llmctl models search qwen coder
      llmctl models search translation italian
      llmctl models search apache embedding
      llmctl models search moe vision

    Where nothing fits, models with a name that is almost that are listed, and it says so.

    Reads files only. Exit codes: 0, 4 nothing is called that, or nearly that.
    """
    from llmctl.workspace import models

    out = Output("models search", as_json=json)
    matches, find = models.search(out, words), models.finder()
    if matches.nearly:
        out.note(f"No model fits {' '.join(words)!r}; these are called almost that:")
    out.data({"models": [row(model, find) for model in matches.models], "near": matches.nearly})
    cells = [("id", "size", "context", "licence", "good for")]
    for model in matches.models:
        licence = (model.licence or "unknown").removeprefix("LicenseRef-")
        tasks = ", ".join(model.tasks)
        if model.distilled_from:
            tasks += f" (distilled from {model.distilled_from} into {model.base_model})"
        cells.append((model.id, parameters(model.parameters), units.count(model.shape.context_train), licence, tasks))
    for line in table(cells, "<>><<"):
        out.text(line)
