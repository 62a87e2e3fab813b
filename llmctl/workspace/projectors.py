"""The vision projector that goes with a model: beside it in its folder, or in its repository on the hub."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from llmctl.errors import LlmctlError
from llmctl.gguf import file_names
from llmctl.gguf.header import read_file
from llmctl.gguf.projector import Projector, projector
from llmctl.gguf.shards import SHARD
from llmctl.settings import Settings
from llmctl.store import Store
from llmctl.types.model import Candidate, Source, SourceKind


def with_projector(candidate: Candidate, store: Store) -> Candidate:
    """A model whose file is here, with the projector beside it, or the one that the catalogue names, and what that
    takes. Where a folder has more models than one, it is the projector that is called like this one; one that can't be
    read counts as none."""
    if candidate.path is None or (file := _beside(candidate.path) or _named(candidate, store)) is None:
        return candidate
    try:
        return replace(counted(candidate, projector(read_file(file, whole=False))), projector=file)
    except LlmctlError:
        return candidate


def _named(candidate: Candidate, store: Store) -> Path | None:
    source = candidate.model.projector
    return None if source is None else store.find(source)


def of_hub(source: Source, settings: Settings) -> Projector | None:
    """Out of its header; where that can't be had, its size is that of its weights."""
    from llmctl.hub import headers

    try:
        return projector(headers.read([source], settings))
    except LlmctlError:
        return None if source.bytes is None else Projector(source.bytes, 0)


def without(candidate: Candidate) -> Candidate:
    """The model for text alone, as it is loaded where a prompt has no images."""
    return replace(counted(candidate, Projector(0, 0)), projector=None)


def counted(candidate: Candidate, projector: Projector) -> Candidate:
    """The model with what ``projector`` takes."""
    artifact = replace(
        candidate.artifact, projector_bytes=projector.weights_bytes, projector_compute_bytes=projector.compute_bytes
    )
    return replace(candidate, model=replace(candidate.model, artifacts=(artifact,)), artifact=artifact)


def _beside(model: Path) -> Path | None:
    try:
        files = [file for file in model.parent.iterdir() if file_names.has_ending(file.name)]
    except OSError:
        return None
    projectors = [file for file in files if file_names.is_projector(file.name)]
    own = _name(model)
    if any(_name(file) != own for file in files if file_names.is_model(file.name)):
        projectors = [file for file in projectors if own in file.name.lower()]
    sources = {Source(SourceKind.LOCAL, None, file.name): file for file in projectors}
    from llmctl.hub.quantizations import nearest_projector

    chosen = nearest_projector(model.name, list(sources))
    return None if chosen is None else sources[chosen]


def _name(model: Path) -> str:
    match = SHARD.fullmatch(model.name)
    return file_names.without_quant(match["stem"] if match else model.stem).lower()
