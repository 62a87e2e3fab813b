"""``llmctl models``: what the catalogue knows, and where it knows it from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.output import Output

if TYPE_CHECKING:
    from llmctl.types.model import Model, Openness

app = typer.Typer(name="models", help="What the catalogue knows of each model.", no_args_is_help=True)

SYMBOLS = {"open": "●", "partial": "◐", "closed": "○"}
DIMENSIONS = {
    "weights_basemodel": "base weights",
    "weights_endmodel": "weights",
    "datasources_basemodel": "training data",
    "datasources_endmodel": "tuning data",
    "trainingcode": "training code",
    "code": "code documentation",
    "hardware_architecture": "hardware documentation",
    "preprint": "preprint",
    "paper": "peer-reviewed paper",
    "modelcard": "model card",
    "datasheet": "data sheet",
    "licenses": "licences",
}
THINKS = {"never": None, "asked": "if asked to", "default": "unless told not to", "always": "always"}
ATTRIBUTION = (
    "European Open Source AI Index, https://osai-index.eu/, CC BY 4.0 (Liesenfeld & Dingemanse, FAccT 2024, "
    "doi:10.1145/3630106.3659005)"
)


@app.command("list")
def list_(json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False) -> None:
    """List the models of the catalogue, smallest first.

    \b
    Examples:
      llmctl models list
      llmctl models list --json

    Reads files only. Exit codes: 0.
    """
    from llmctl.cli import situation
    from llmctl.store import Store

    out = Output("models list", as_json=json)
    models = sorted(situation.known(out).models, key=lambda model: (model.parameters or 0, model.id))
    find = Store().find
    here = {
        (model.id, artifact.quant)
        for model in models
        for artifact in model.artifacts
        if find(artifact.source) is not None
    }
    rows = [_row(model, here) for model in models]
    out.data({"models": rows})
    if not json:
        for line in _lines(rows):
            out.text(line)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A model's id or name.", autocompletion=complete.models)],
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show one model: facts with their sources, published results, what is open and what is not, files.

    \b
    Examples:
      llmctl models show qwen3.5-4b

    Reads files only. Exit codes: 0, 4 no such model.
    """
    from llmctl import catalogue
    from llmctl.cli import situation
    from llmctl.store import Store

    out = Output("models show", as_json=json)
    model = catalogue.find(situation.known(out), name)
    data = _document(model)
    for file, artifact in zip(data["files"], model.artifacts, strict=True):
        path = Store().find(artifact.source)
        file["path"] = None if path is None else str(path)
    out.data(data)
    if not json:
        for line in _story(model, data):
            out.text(line)


def _row(model: Model, here: set[tuple[str, str]]) -> dict[str, Any]:
    return {
        "id": model.id,
        "name": model.name,
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "licence": model.licence,
        "context": model.shape.context_train,
        "quants": [artifact.quant for artifact in model.artifacts],
        "installed": [artifact.quant for artifact in model.artifacts if (model.id, artifact.quant) in here],
        "starter": model.starter,
    }


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    cells = [("id", "size", "context", "licence", "quants (* is here)")]
    for row in rows:
        quants = " ".join(f"{quant}*" if quant in row["installed"] else quant for quant in row["quants"])
        licence = (row["licence"] or "unknown").removeprefix("LicenseRef-")
        cells.append((row["id"], _parameters(row["parameters"]), units.count(row["context"]), licence, quants))
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    for id, size, context, licence, quants in cells:
        first = f"{id:<{widths[0]}} {size:>{widths[1]}} {context:>{widths[2]}}"
        yield f"{first} {licence:<{widths[3]}} {quants}".rstrip()


def _parameters(count: int | None) -> str:
    if count is None:
        return "?"
    return f"{count / 1e6:.0f}M" if count < 999_500_000 else f"{count / 1e9:.1f}B"


def _document(model: Model) -> dict[str, Any]:
    from llmctl.planner.document import evidence_document, openness_document

    return {
        "id": model.id,
        "name": model.name,
        "publisher": model.publisher,
        "base_model": model.base_model,
        "licence": model.licence,
        "released": model.released,
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "context": model.shape.context_train,
        "languages": model.languages,
        "tasks": model.tasks,
        "thinking": model.thinking,
        "starter": model.starter,
        "sampling": model.sampling,
        "shape": model.shape,
        "evidence": [evidence_document(one) for one in model.evidence],
        "openness": None if model.openness is None else openness_document(model.openness),
        "sources": model.sources,
        "files": [
            {
                "quant": artifact.quant,
                "kind": artifact.source.kind,
                "repo": artifact.source.repo,
                "file": artifact.source.file,
                "bytes": artifact.source.bytes,
                "sha256": artifact.source.sha256,
                "revision": artifact.source.revision,
            }
            for artifact in model.artifacts
        ],
    }


def _story(model: Model, data: dict[str, Any]) -> Iterator[str]:
    yield f"{model.name}   {model.id}"
    size = _parameters(model.parameters)
    if model.active_parameters:
        size += f", {_parameters(model.active_parameters)} active"
    facts = {
        "publisher": model.publisher,
        "base model": model.base_model,
        "licence": model.licence,
        "released": model.released,
        "parameters": size,
        "context": f"{model.shape.context_train:,} tokens",
        "languages": ", ".join(model.languages),
        "good for": ", ".join(model.tasks),
        "thinks": THINKS[model.thinking],
    }
    yield from (f"  {name:<12}{value}" for name, value in facts.items() if value)
    yield "Stated by"
    yield from (f"  {name:<12}{source}" for name, source in model.sources.items())
    if model.evidence:
        yield "Published results (t: with thinking, s: self-reported, e: estimated)"
    for one in model.evidence:
        marks = "".join(
            mark for mark, on in zip("tse", (one.thinking, one.self_reported, one.estimated), strict=True) if on
        )
        setting = f"  {one.setting}" if one.setting else ""
        yield f"  {one.score:>7.4g} {marks:<3} {one.benchmark}{setting}"
        yield f"              {one.source}"
    yield from _open(model.openness)
    yield "Files"
    for file in data["files"]:
        place = file["path"] or f"{file['repo']} {file['file']}"
        yield f"  {file['quant']:<11}{units.size(file['bytes']):>8}  {place}"
    yield ""
    yield f"llmctl plan {model.id}   llmctl pull {model.id}"


def _open(openness: Openness | None) -> Iterator[str]:
    if openness is None:
        yield "Openness: not graded"
        return
    relation = openness.match.replace("_", " ")
    yield f"Openness (● open, ◐ partial, ○ closed), graded on {openness.graded_on}: {relation}"
    for name, words in DIMENSIONS.items():
        if grade := openness.grades.get(name):
            yield f"  {SYMBOLS[grade]} {words}"
    yield f"  {ATTRIBUTION}"
    yield f"  {openness.source}"
