"""Reads one model of a profile: facts, shape, files. All functions raise FieldError."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec.structs import replace

from llmctl.catalogue import openness
from llmctl.files.decode import Table
from llmctl.gguf.quant import WEIGHT_TYPE_BY_NAME
from llmctl.types.model import (
    Artifact,
    Embedding,
    Heads,
    Model,
    Openness,
    Shape,
    Source,
    SourceKind,
    Weights,
)

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "presence_penalty")
FIRST_PART = re.compile(r".*-0{4}1-of-(?!0{4}1\.)[0-9]{5}\.gguf")


def model(table: Table, graded: Mapping[str, Openness]) -> Model:
    """``graded`` are the entries of the index that the file has."""
    context = table.count("context")
    made = table.fill(
        Model,
        released=table.day_or_none("released"),
        sampling=_sampling(table),
        openness=openness.graded(table.table_or_none("openness"), graded),
        shape=shape(table.table("shape"), context),
        artifacts=tuple(map(artifact, table.tables("file"))),
        projector=_projector(table.table_or_none("projector")),
        relatives=(),
        embedding=_embedding(table.table_or_none("embedding")),
    )
    made = replace(made, shape=replace(made.shape, pools=not {"embed", "rerank"}.isdisjoint(made.tasks)))
    table.check(bool(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", made.id)), "id", "lower case letters, digits, '.', '-', '_'")
    table.check({"facts", "shape"} <= set(made.sources), "sources", "a table with at least facts and shape")
    table.check(
        made.distilled_from is None or made.base_model is not None, "base_model", "given for a distillation, it is text"
    )
    table.check(made.embedding is None or "embed" in made.tasks, "embedding", "given for an embedding model only")
    quants = [file.quant for file in made.artifacts]
    table.check(bool(quants) and len(set(quants)) == len(quants), "file", "one or more files, each of another quant")
    return made


def _sampling(table: Table) -> dict[str, int | float] | None:
    """What the model's publisher recommends, in the engine's own names."""
    values = table.numbers("sampling")
    for name in values:
        table.check(name in SAMPLING, f"sampling.{name}", "one of " + ", ".join(SAMPLING))
    table.check(isinstance(values.get("top_k", 0), int), "sampling.top_k", "a whole number")
    return values or None


def shape(table: Table, context: int) -> Shape:
    """``kv`` has a row for each kind of layer that caches: how many, their key heads, the width of a key and of a value
    (the same unless ``value_dim`` says otherwise), and the window where they have one. Layers that share another's
    cache are not in it. With ``latent`` attention no value is kept, whatever its width. ``n_draft`` layers behind the
    others only draft tokens."""
    full = windowed = key_length = value_length = 0
    windows = set()
    kinds: list[tuple[int, int, int]] = []  # elements of a key and a value, key heads
    values: list[tuple[int, int, bool]] = []  # layers, elements of a layer's values, whether there is a window
    latent = table.flag("latent")
    for row in table.tables("kv"):
        layers, heads, key = row.count("layers"), row.count("heads"), row.count("head_dim")
        value = row.count_or_none("value_dim") or key
        window = row.count_or_none("window")
        row.end()
        kinds.append((key, value, heads))
        key_length, value_length = max(key_length, key), max(value_length, value)
        values.append((layers, 0 if latent else heads * value, window is not None))
        width = layers * heads * (key if latent else key + value)
        if window is None:
            full += width
        else:
            windowed += width
            windows.add(window)
    widest = max((width for _, width, _ in values), default=0)
    padding = [0, 0]  # of layers without and with a window
    for layers, width, limited in values:
        padding[limited] += layers * (widest - width)
    table.check(len(windows) <= 1, "kv", "rows with one and the same window")
    n_head = table.count("n_head")
    made = Shape(
        architecture=table.text("architecture"),
        n_layer=table.count("n_layer"),
        n_embd=table.count("n_embd"),
        n_head=n_head,
        n_ff=table.count_or_none("n_ff"),
        n_vocab=table.count("n_vocab"),
        context_train=context,
        kv_width=full,
        kv_window_width=windowed,
        window=windows.pop() if windows else None,
        state_bytes=table.count_or_none("state_bytes") or 0,
        n_expert=table.count_or_none("n_expert") or 0,
        n_expert_used=table.count_or_none("n_expert_used") or 0,
        key_length=key_length,
        value_length=value_length,
        value_width=widest,
        kv_padding=padding[0],
        kv_window_padding=padding[1],
        n_ff_expert=table.count_or_none("n_ff_expert") or 0,
        latent=latent,
        per_layer_width=table.count_or_none("per_layer_width") or 0,
        n_draft=table.count_or_none("n_draft") or 0,
        heads=tuple(Heads(key, value, n_head // heads) for key, value, heads in sorted(set(kinds))),
    )
    cached = sum(layers for layers, _, _ in values)
    table.check(cached <= made.n_layer, "kv", f"rows of at most n_layer layers together, not {cached}")
    table.check(made.n_expert_used <= made.n_expert, "n_expert_used", "at most n_expert")
    table.end()
    return made


def artifact(table: Table) -> Artifact:
    """One file of a model. Without ``bytes`` its source states no size, and its tensors' bytes are estimated."""
    types, expert_types = table.counts("types"), table.counts("expert_types")
    table.check(bool(types) and types.keys() <= WEIGHT_TYPE_BY_NAME.keys(), "types", "bytes by ggml weight type")
    table.check(
        all(expert_types[name] <= types.get(name, 0) for name in expert_types), "expert_types", "a part of types"
    )
    weights = Weights(
        total_bytes=table.count("tensor_bytes"),
        embedding_bytes=table.count_or_none("lookup_bytes") or 0,
        expert_bytes=sum(expert_types.values()),
        type_bytes=types,
        exact=table.flag("exact"),
        expert_type_bytes=expert_types,
        tied_bytes=table.count_or_none("tied_bytes") or 0,
    )
    made = Artifact(
        quant=table.text("quant"),
        source=_source(table),
        weights=weights,
    )
    parts = sum(types.values()) + weights.embedding_bytes
    table.check(parts <= weights.total_bytes, "tensor_bytes", f"at least its parts, {parts:,}")
    table.check(weights.tied_bytes <= sum(types.values()), "tied_bytes", "a part of types")
    table.check(weights.total_bytes <= made.bytes, "bytes", "at least tensor_bytes")
    split = FIRST_PART.fullmatch(made.source.file) is not None
    table.check(not (split and made.source.sha256), "sha256", "left out: one part's is not that of the model")
    table.end()
    return made


def _source(table: Table) -> Source:
    return Source(
        kind=table.kind("kind", SourceKind, SourceKind.HUB),
        repo=table.text("repo"),
        file=table.text("file"),
        bytes=table.count_or_none("bytes"),
        sha256=table.digest_or_none("sha256"),
        revision=table.text_or_none("revision") or "main",
    )


def _embedding(table: Table | None) -> Embedding | None:
    """Of an embedding model."""
    if table is None:
        return None
    return table.fill(Embedding, query=table.text_or_none("query") or "", document=table.text_or_none("document") or "")


def _projector(table: Table | None) -> Source | None:
    if table is None:
        return None
    source = _source(table)
    table.end()
    return source
