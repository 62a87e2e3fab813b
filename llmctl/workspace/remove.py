"""Removing models from this machine, and what the store holds and nobody needs."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from llmctl.errors import ResourceError
from llmctl.store.layout import COMMIT
from llmctl.store.upkeep.prune import Leftover
from llmctl.types.listener import Listener
from llmctl.types.model import SourceKind
from llmctl.workspace import inventory
from llmctl.workspace.inventory import Item
from llmctl.workspace.situation import Shelf

__all__ = ["Leftover", "Removal", "clear", "leftovers", "removal", "remove"]


class Removal(Struct, frozen=True):
    """``going`` are the models that are removed, with the projectors that no model needs then; ``staying`` those of
    the same name that another tool holds."""

    going: tuple[Item, ...]
    staying: tuple[Item, ...]

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.going)


def removal(shelf: Shelf, name: str) -> Removal:
    """What would go by ``name``. Raises NotFoundError, and UsageError where all of it is another tool's."""
    items = shelf.items()
    named = inventory.named(items, name)
    ours = [item for item in named if not item.owner.foreign]
    if not ours:
        shelf.store.remove(named[0].files[0])  # says whose it is, and how it goes
    return Removal((*ours, *_lonely_projectors(items, ours)), tuple(item for item in named if item.owner.foreign))


def remove(shelf: Shelf, removal: Removal) -> int:
    """Removes what goes, and returns the bytes that this frees. Raises ResourceError."""
    return sum(shelf.store.remove(file) for item in removal.going for file in item.files)


def leftovers(shelf: Shelf) -> list[Leftover]:
    """Broken-off downloads, files that nothing points to, and those that a newer revision has replaced; the revisions
    that the catalogue names stay."""
    sources = [artifact.source for model in shelf.catalogue.models for artifact in model.artifacts]
    keep = {
        (source.repo or "", source.revision)
        for source in sources
        if source.kind is SourceKind.HUB and COMMIT.fullmatch(source.revision)
    }
    return shelf.store.leftovers(keep)


def clear(listener: Listener, shelf: Shelf, leftovers: Sequence[Leftover]) -> tuple[int, ResourceError | None]:
    """Removes them all, and returns the bytes that this frees, and the last error: one that can't be removed is told
    as a warning, the others go."""
    freed_bytes, failed = 0, None
    for leftover in leftovers:
        try:
            freed_bytes += shelf.store.clear(leftover)
        except ResourceError as error:
            listener.warn(error.message)
            failed = error
    return freed_bytes, failed


def _lonely_projectors(items: Sequence[Item], going: Sequence[Item]) -> list[Item]:
    """Projectors of repositories in which no model is left."""
    repos = {item.files[0].name for item in going}
    left = {item.files[0].name for item in items if item not in going and not item.projector}
    return [
        item
        for item in items
        if item.projector and item not in going and not item.owner.foreign and item.files[0].name in repos - left
    ]
