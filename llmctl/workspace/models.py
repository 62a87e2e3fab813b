"""The models of the catalogue, for whoever lists, searches or shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from llmctl import catalogue
from llmctl.catalogue import search as catalogue_search
from llmctl.catalogue.openness import ATTRIBUTION, MATCHES, admits, lacking
from llmctl.errors import NotFoundError
from llmctl.store import Store
from llmctl.types.listener import Listener
from llmctl.types.model import Model, Source
from llmctl.types.openness import Level
from llmctl.workspace.situation import load_catalogue

__all__ = ["ATTRIBUTION", "MATCHES", "Matches", "Shown", "admits", "finder", "lacking", "open_models", "search", "show"]

Finder = Callable[[Source], Path | None]


class Matches(Struct, frozen=True):
    """``nearly``: no model has all the words, these have names that are almost that."""

    models: Sequence[Model]
    nearly: bool


class Shown(Struct, frozen=True):
    """A model, and where each of its files is on this machine, None if it isn't."""

    model: Model
    paths: tuple[Path | None, ...]


def open_models(models: Sequence[Model], level: Level | None, licence: str | None) -> list[Model]:
    """Those that are graded open and licensed like that. Raises NotFoundError if none is."""
    admitted = [model for model in models if admits(model, level=level, licence=licence)]
    if not admitted:
        licences = ", ".join(sorted({model.licence for model in models if model.licence}))
        hint = f"there are {licences}" if licence else "llmctl models list --all"
        raise NotFoundError("no model of the catalogue is open like that, or under that licence", hint=hint)
    return admitted


def search(listener: Listener, words: Sequence[str]) -> Matches:
    """The models that all ``words`` are true of. Raises NotFoundError if none is called that, or nearly that."""
    models = load_catalogue(listener).models
    if matching := catalogue_search.search(models, words):
        return Matches(matching, nearly=False)
    nearly = catalogue_search.near(models, words)
    if not nearly:
        raise NotFoundError(f"no model fits {' '.join(words)!r}", hint="llmctl models list --all")
    return Matches(nearly, nearly=True)


def show(listener: Listener, name: str) -> Shown:
    """The model of that id or name. Raises NotFoundError, also where it has no such quant."""
    models, find = load_catalogue(listener), finder()
    model = catalogue.find(models, name)
    catalogue.candidates(models, name, find)  # or there is no such quant
    return Shown(model, tuple(find(artifact.source) for artifact in model.artifacts))


def finder() -> Finder:
    """What tells where a file is on this machine, None if it isn't there."""
    return Store().find
