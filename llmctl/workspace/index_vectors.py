"""Vectors for the passages of an index: made in batches, each kept at once, so that a stopped command goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct

from llmctl.errors import PolicyError
from llmctl.net import host_of
from llmctl.retrieval import vectors
from llmctl.shell import command
from llmctl.types.role import Role
from llmctl.units import number_of
from llmctl.workspace import embedder, indexes, private_paths
from llmctl.workspace.embedder import EmbedderAsked

if TYPE_CHECKING:
    from llmctl.retrieval.text_index import TextIndex
    from llmctl.settings import Settings
    from llmctl.types.listener import Listener
    from llmctl.workspace.indexes import NamedIndex

EMBEDDER = "embedder"  # the note of an index that has vectors: what makes them
MAY_EMBED = "texts may leave to "  # and a host
BATCH = 32


class AddedVectors(Struct, frozen=True):
    """So many ``passages`` have got a vector by ``embedder``."""

    embedder: str
    passages: int
    seconds: float


def is_embedder_here(listener: Listener, settings: Settings) -> bool:
    """Whether an embedding model of the catalogue is on this machine."""
    from llmctl.workspace import situation

    candidates = situation.shelf(listener, loaded=settings).candidates(None)
    return any(candidate.path for candidate in candidates if embedder.TASK in candidate.model.tasks)


def embedder_of(index: NamedIndex) -> str | None:
    """What makes the vectors of the index; None where it has none."""
    with index.opened() as opened:
        return opened.about(EMBEDDER)


def pending_passages(index: NamedIndex) -> int:
    with index.opened() as opened:
        size = opened.size()
        return size.passages - size.with_vector


def without_vectors(index: NamedIndex) -> None:
    """The index is one of words alone from now on."""
    with indexes.being_changed(index), index.opened() as opened, opened.transaction():
        vectors.forget(opened)
        opened.note(EMBEDDER, None)


def add_vectors(listener: Listener, settings: Settings, index: NamedIndex, asked: EmbedderAsked) -> AddedVectors:
    """Gives a vector to each passage that has none; to all, where another model made those that there are. Raises what
    ``embedder.opened`` raises, and PolicyError where the texts may not go to a server."""
    begun_s, done = time.monotonic(), 0
    with indexes.being_changed(index), index.opened() as opened:
        private = _require_may_leave(listener, settings, index, opened, asked)
        with embedder.opened(listener, settings, asked, private=private) as makes:
            if opened.about(EMBEDDER) != makes.name:
                with opened.transaction():
                    vectors.forget(opened)
                    opened.note(EMBEDDER, makes.name)
            total, read = vectors.pending_characters(opened), 0
            with listener.progress(f"{index.name}, vectors") as progress:
                for batch in vectors.pending(opened, BATCH):
                    made = makes.vectors([passage.text for passage in batch], Role.DOCUMENT)
                    with opened.transaction():
                        vectors.add(opened, batch, made)
                    read += sum(len(passage.text) for passage in batch)
                    done += len(batch)
                    progress(read, total)
            return AddedVectors(makes.name, done, time.monotonic() - begun_s)


def _require_may_leave(
    listener: Listener, settings: Settings, index: NamedIndex, opened: TextIndex, asked: EmbedderAsked
) -> bool:
    """Asks once for each index and server whether its texts may go there; whether one of its files must not go
    anywhere. Raises PolicyError where nobody can be asked, or says no."""
    if asked.endpoint is None:
        return False
    if private_paths.is_private(listener, settings, [str(index.root / name) for name in opened.files()]):
        return True
    endpoint = settings.endpoint(asked.endpoint)
    host, size = host_of(endpoint.url), opened.size()
    if opened.about(MAY_EMBED + host) is not None:
        return False
    what = f"the texts of {index.name} ({number_of(size.files, 'file')}, {number_of(size.passages, 'passage')})"
    if not listener.interactive:
        raise PolicyError(
            f"{what} would leave for {endpoint.name} ({host}), and nobody has agreed to that",
            hint=command("llmctl", "index", "add", "--vectors", names=[index.root])
            + "   makes vectors here; with --endpoint, a terminal is asked once for each index",
        )
    question = f"Send {what} to {endpoint.name} ({host}), and later what changes and each question?"
    if not listener.confirm(question, yes=False, by_default=False):
        raise PolicyError(f"nothing of {index.name} was sent to {endpoint.name}")
    opened.note(MAY_EMBED + host, endpoint.name)
    return False
