"""``llmctl models show``: what the catalogue knows of one model, and where it knows it from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.models.listing import parameters
from llmctl.cli.output import Output

if TYPE_CHECKING:
    from llmctl.types.model import Model, Openness

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
    find = Store().find
    for file, artifact in zip(data["files"], model.artifacts, strict=True):
        path = find(artifact.source)
        file["path"] = None if path is None else str(path)
    out.data(data)
    if not json:
        for line in _story(model, data):
            out.text(line)


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
    size = parameters(model.parameters)
    if model.active_parameters:
        size += f", {parameters(model.active_parameters)} active"
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
