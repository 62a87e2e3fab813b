"""``llmctl models show``: what the catalogue knows of one model, and where it knows it from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.models.listing import parameters
from llmctl.cli.output import Output
from llmctl.shell import command
from llmctl.types.openness import DIMENSIONS, Level

if TYPE_CHECKING:
    from llmctl.types.model import Model

SYMBOLS = {"open": "●", "partial": "◐", "closed": "○"}
THINKS = {"never": None, "asked": "if asked to", "default": "unless told not to", "always": "always"}


def show(
    name: Annotated[str, typer.Argument(help="A model's id or name.", autocompletion=complete.models)],
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show one model: facts with their sources, published results, what is open and what is not, files.

    \b
    Examples:
      llmctl models show qwen3.5-4b

    Reads files only. Exit codes: 0, 4 no such model or quant.
    """
    from llmctl.workspace import models

    out = Output("models show", as_json=json)
    shown = models.show(out, name)
    data = _document(shown.model)
    for file, path in zip(data["files"], shown.paths, strict=True):
        file["path"] = None if path is None else str(path)
    out.data(data)
    if not json:
        for line in _story(shown.model, data):
            out.text(line)


def _document(model: Model) -> dict[str, Any]:
    from llmctl.workspace.document import evidence_document, model_document

    return {
        **model_document(model),
        "released": model.released,
        "thinking": model.thinking,
        "sampling": model.sampling,
        "shape": model.shape,
        "evidence": [evidence_document(result) for result in model.evidence],
        "sources": model.sources,
        "projector": model.projector,
        "files": [
            {
                "quant": artifact.quant,
                "kind": artifact.source.kind,
                "repo": artifact.source.repo,
                "file": artifact.source.file,
                "bytes": artifact.source.bytes,
                "tensor_bytes": artifact.weights.total_bytes,
                "exact": artifact.weights.exact,
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
        "distilled": model.distilled_from and f"from {model.distilled_from}, which this is not",
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
    for score in model.evidence:
        marks = "".join(
            mark for mark, on in zip("tse", (score.thinking, score.self_reported, score.estimated), strict=True) if on
        )
        setting = f"  {score.setting}" if score.setting else ""
        yield f"  {score.score:>7.4g} {marks:<3} {score.benchmark}{setting}"
        yield f"              {score.source}"
    yield from _open(model)
    yield "Files"
    for file in data["files"]:
        place = file["path"] or f"{file['repo']} {file['file']}"
        size = units.size(file["bytes"]) if file["bytes"] else f"~{units.size(file['tensor_bytes'])}"
        yield f"  {file['quant']:<11}{size:>9}  {place}"
    if (eye := model.projector) is not None:
        yield f"  {'projector':<11}{units.size(eye.bytes):>9}  {eye.repo} {eye.file}   (for images)"
    if any(file["bytes"] is None for file in data["files"]):
        yield f"  ~ derived, not stated by the hub: {command('llmctl', 'models', 'refresh', names=[model.id])}"
    yield ""
    yield "   ".join(command("llmctl", verb, names=[model.id]) for verb in ("plan", "pull"))


def _open(model: Model) -> Iterator[str]:
    from llmctl.workspace.models import ATTRIBUTION, MATCHES, lacking

    openness = model.openness
    if openness is None:
        yield "Openness: not graded"
        return
    yield f"Openness, by grades for {openness.graded_on}: {MATCHES[openness.match]}"
    for grade, symbol in SYMBOLS.items():
        words = [words for name, words in DIMENSIONS.items() if openness.grades.get(name) == grade]
        yield f"  {symbol} {grade + ':':<9}{', '.join(words) or 'nothing'}"
    if ungraded := [words for name, words in DIMENSIONS.items() if name not in openness.grades]:
        yield f"  - ungraded: {', '.join(ungraded)}"
    for level in Level:
        missing = [DIMENSIONS[name] for name in lacking(model, level)]
        yield f"  --open {level + ':':<9}{'no, for ' + ', '.join(missing) if missing else 'yes'}"
    yield f"  {ATTRIBUTION}"
    yield f"  {openness.source}" + (f", as of {openness.date}" if openness.date else "")
