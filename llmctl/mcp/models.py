"""The tools ``models`` and ``search``: what is on this machine, and what the catalogue has."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from llmctl.mcp.call import CallListener
from llmctl.mcp.served_tool import ServedTool
from llmctl.types.model import Model
from llmctl.workspace.inventory import Item
from llmctl.workspace.workspace import Workspace

MOST_MATCHES = 20


class ModelsArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """There are none: all models on this machine are listed."""


class HeldModel(Struct, frozen=True):
    """A model on this machine in one quantization. ``label`` is what the other tools take as a model; ``owner`` is the
    program that holds it; a split model lacks ``missing_parts``; a ``projector`` reads images for another model."""

    label: str
    bytes: int
    owner: str
    in_catalogue: bool
    projector: bool
    missing_parts: int


class ModelsResult(Struct, frozen=True):
    models: tuple[HeldModel, ...]
    total_bytes: int
    warnings: tuple[str, ...]


class SearchArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is looked for in the catalogue."""

    words: Annotated[
        str,
        Meta(
            min_length=1, max_length=1000, description="Of names, publishers, tasks, languages, licences: code apache"
        ),
    ]


class CatalogueModel(Struct, frozen=True):
    """A model that can be had. ``context`` is the most tokens that it was trained for."""

    id: str
    name: str
    publisher: str | None
    parameters: int | None
    active_parameters: int | None
    context: int
    licence: str | None
    tasks: tuple[str, ...]
    languages: tuple[str, ...]
    quants: tuple[str, ...]


class SearchResult(Struct, frozen=True):
    """``models`` are the first of ``matches``; ``nearly``: nothing has all the words, these are called almost that."""

    models: tuple[CatalogueModel, ...]
    matches: int
    nearly: bool
    warnings: tuple[str, ...]


def models(asked: ModelsArguments, call: CallListener) -> ModelsResult:
    """Raises ResourceError if the store's disk is missing."""
    items = Workspace(call, offline=True).models()
    held = tuple(map(held_model, items))
    return ModelsResult(held, sum(item.bytes for item in items), tuple(call.warnings))


def held_model(item: Item) -> HeldModel:
    return HeldModel(item.label, item.bytes, item.owner, item.model is not None, item.projector, item.missing)


def search(asked: SearchArguments, call: CallListener) -> SearchResult:
    """Raises NotFoundError if nothing is called that, or nearly that."""
    matches = Workspace(call, offline=True).search(asked.words.split())
    shown = tuple(map(catalogue_model, matches.models[:MOST_MATCHES]))
    return SearchResult(shown, len(matches.models), matches.nearly, tuple(call.warnings))


def catalogue_model(model: Model) -> CatalogueModel:
    return CatalogueModel(
        id=model.id,
        name=model.name,
        publisher=model.publisher,
        parameters=model.parameters,
        active_parameters=model.active_parameters,
        context=model.shape.context_train,
        licence=model.licence,
        tasks=tuple(model.tasks),
        languages=tuple(model.languages),
        quants=tuple(artifact.quant for artifact in model.artifacts),
    )


MODELS = ServedTool(
    name="models",
    title="Models on this machine",
    description="The models that are on this machine, whoever holds them: any of them can answer without a download.",
    arguments=ModelsArguments,
    result=ModelsResult,
    answer=models,
)
SEARCH = ServedTool(
    name="search",
    title="Search the catalogue of models",
    description="Models of the catalogue that all the words are true of, those whose names match and small ones first.",
    arguments=SearchArguments,
    result=SearchResult,
    answer=search,
)
