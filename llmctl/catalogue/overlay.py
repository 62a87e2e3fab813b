"""Writes the hub's answers into the user's overlay of the catalogue, and keeps everything else in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmctl.catalogue.refreshed import TABLE, Refreshed
from llmctl.errors import ConfigError
from llmctl.settings import locked, replace_file
from llmctl.shell import command
from llmctl.types.model import Artifact, Shape, SourceKind

FILE = "refreshed.toml"
HEAD = """\
# What the hub said of files of the catalogue: written by `llmctl models refresh`. A table of a model is replaced when
# that model is refreshed again; all else in this file is kept. Without the file the catalogue is as it ships.
"""


def write(folder: Path, answers: Sequence[Refreshed], date: str) -> Path:
    """Puts ``answers`` (one or more models) into the overlay's file, each in place of an earlier one of that model.

    ``date`` is today, ISO. Comments and tables of the user's own stay. Returns the file. Raises ConfigError where it
    can't be edited, ResourceError when the disk is full or another process keeps the lock.
    """
    file = folder / FILE
    with locked(file):
        _write(file, answers, date)
    return file


def _write(file: Path, answers: Sequence[Refreshed], date: str) -> None:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document: Any = tomlkit.parse(file.read_text("utf-8") if file.exists() else HEAD)
        tables = document.setdefault(TABLE, tomlkit.aot())
        for answer in answers:
            made = _table(answer, date)
            at = next((n for n, table in enumerate(tables) if table.get("id") == answer.id), None)
            if at is None:
                tables.append(made)
            else:
                for key in list(tables[at]):
                    if key not in made:
                        del tables[at][key]
                tables[at].update(made)
        replace_file(file, tomlkit.dumps(document))
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError, RecursionError, TOMLKitError) as error:
        raise ConfigError(
            f"{file} can't be edited: {error}", hint=f"mend it, or move it away: {command(file)}"
        ) from error


def _table(answer: Refreshed, date: str) -> Any:
    import tomlkit

    table = tomlkit.table()
    table["id"], table["date"] = answer.id, date
    if answer.gone:
        table["gone"] = list(answer.gone)
    if answer.shape is not None:
        table["context"] = answer.shape.context_train
        table["shape"] = _filled(dict(_shape(answer.shape)))
    if answer.artifacts:
        files = tomlkit.aot()
        for artifact in answer.artifacts:
            files.append(_filled(dict(_file(artifact))))
        table["file"] = files
    return table


def _filled(values: Mapping[str, Any]) -> Any:
    import tomlkit

    table = tomlkit.table()
    for key, value in values.items():
        if isinstance(value, dict):
            inner = tomlkit.inline_table()
            inner.update(value)
            table[key] = inner
        else:
            table[key] = value
    return table


def _file(artifact: Artifact) -> Iterator[tuple[str, Any]]:
    """The fields of a ``[[refreshed.file]]``, as ``catalogue.entry`` reads them."""
    source, weights = artifact.source, artifact.weights
    values = {
        "quant": artifact.quant,
        "kind": None if source.kind is SourceKind.HUB else str(source.kind),
        "repo": source.repo,
        "file": source.file,
        "bytes": source.bytes,
        "sha256": source.sha256,
        "revision": None if source.revision == "main" else source.revision,
        "tensor_bytes": weights.total_bytes,
        "lookup_bytes": weights.embedding_bytes,
        "tied_bytes": weights.tied_bytes,
        "types": dict(weights.type_bytes),
        "expert_types": dict(weights.expert_type_bytes),
        "exact": weights.exact,
    }
    yield from ((key, value) for key, value in values.items() if value)


def _shape(shape: Shape) -> Iterator[tuple[str, Any]]:
    names = ("architecture", "n_layer", "n_embd", "n_head", "n_ff", "n_vocab", "state_bytes", "n_expert")
    more = ("n_expert_used", "n_ff_expert", "latent", "per_layer_width", "n_draft")
    yield from ((name, value) for name in (*names, *more) if (value := getattr(shape, name)))
    if rows := list(_rows(shape)):
        yield "kv", rows


def _rows(shape: Shape) -> Iterator[dict[str, int]]:
    """Rows of ``kv`` with the widths that the layers have: where a layer's heads are others than the header's key
    length tells, its width counts as one head."""
    counted: dict[tuple[int, bool], int] = {}
    for layer in shape.layers:
        if layer.kv_width:
            counted[layer.kv_width, layer.windowed] = counted.get((layer.kv_width, layer.windowed), 0) + 1
    head = shape.key_length if shape.latent else shape.key_length + shape.value_length
    for (width, windowed), layers in counted.items():
        row = {"layers": layers, "heads": width // head, "head_dim": shape.key_length}
        if shape.value_length != shape.key_length:
            row["value_dim"] = shape.value_length
        if width % head:
            row = {"layers": layers, "heads": 1, "head_dim": width // 2, "value_dim": width - width // 2}
        yield row | ({"window": shape.window} if windowed and shape.window else {})
