"""The hub's last answers about the catalogue's files: ``[[refreshed]]`` in the user's overlay.

``llmctl models refresh`` writes one table for each model: the files that differ from the catalogue, each a whole
``[[model.file]]``, those that are gone, and the shape if a header has another. A file replaces the catalogue's only if
repository and name are the same, so that a newer catalogue with another file wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from llmctl.catalogue import entry
from llmctl.files.decode import Table
from llmctl.types.model import Artifact, Model, Shape

TABLE = "refreshed"


class Refreshed(Struct, frozen=True):
    """The answer for the model ``id``: files that differ from the catalogue, quants whose files are ``gone``, and the
    shape if it differs."""

    id: str
    artifacts: tuple[Artifact, ...] = ()
    gone: tuple[str, ...] = ()
    shape: Shape | None = None


def read(table: Table) -> Refreshed:
    """Raises FieldError."""
    id = table.text("id")
    table.day_or_none("date")
    context = table.count_or_none("context")
    shape = table.table_or_none("shape")
    table.check(shape is None or context is not None, "context", "given beside shape, it is a whole number")
    made = Refreshed(
        id,
        tuple(entry.artifact(file) for file in table.tables("file")),
        table.texts("gone"),
        None if shape is None else entry.shape(shape, context or 0),
    )
    table.end()
    return made


def apply(models: Mapping[str, Model], answers: Sequence[Refreshed]) -> dict[str, Model]:
    """``models`` by id with the hub's ``answers`` put in. A model that would be left without a file stays as it is."""
    result = dict(models)
    for answer in answers:
        if (model := result.get(answer.id)) is None:
            continue
        newer = {(artifact.source.repo, artifact.source.file): artifact for artifact in answer.artifacts}
        artifacts = tuple(
            newer.get((artifact.source.repo, artifact.source.file), artifact)
            for artifact in model.artifacts
            if artifact.quant not in answer.gone
        )
        result[answer.id] = replace(model, artifacts=artifacts or model.artifacts, shape=answer.shape or model.shape)
    return result
