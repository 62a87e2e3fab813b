"""The models that llmctl knows: ``profiles/models/*.toml`` and the user's own folder laid over it.

The format of a file, by example: ``profiles/models/gemma-4.toml``. Every fact stands beside the address that states
it; what is unknown is left out.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmctl.catalogue.schema import Table, WrongFieldError, position
from llmctl.errors import NotFoundError
from llmctl.gguf.quant import QUANT_BY_NAME
from llmctl.types.model import (
    Artifact,
    Candidate,
    Evidence,
    Model,
    Openness,
    Shape,
    Source,
    SourceKind,
    Thinking,
    Weights,
)

GRADES = frozenset({"open", "partial", "closed"})
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "presence_penalty")
MAX_FILE_BYTES = 1 << 20
LIST_HINT = "llmctl models list --all"


@dataclass(frozen=True, slots=True)
class ProfileProblem:
    """What is wrong in a profile: ``expected`` completes "must be …"; ``line`` counts from 1, None if not known."""

    file: Path
    field: str | None
    expected: str
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{place}: {self.field} must be {self.expected}" if self.field else f"{place}: {self.expected}"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models that could be read, in the order of the files, and what could not."""

    models: tuple[Model, ...]
    problems: tuple[ProfileProblem, ...] = ()


def load(folder: Path, overlay: Path | None = None) -> Catalogue:
    """Every model of ``folder``, with those of ``overlay`` added, or put in the place of the same id.

    Nothing raises: a file or model that is written wrongly is a problem, and all others are there.
    """
    models: dict[str, Model] = {}
    problems: list[ProfileProblem] = []
    for place in (folder, overlay):
        here: dict[str, Model] = {}
        for file in sorted(place.glob("*.toml")) if place is not None and place.is_dir() else ():
            for model, at in _read(file, problems):
                if model.id in here:
                    problems.append(ProfileProblem(file, "id", f"unlike that of another model: {model.id}", at))
                else:
                    here[model.id] = model
        models |= here
    return Catalogue(tuple(models.values()), tuple(problems))


def find(catalogue: Catalogue, name: str) -> Model:
    """The model of that id or name, in any case, a ``:QUANT`` left aside. NotFoundError tells the nearest names."""
    wanted = _split(name)[0].lower()
    for model in catalogue.models:
        if wanted in (model.id.lower(), model.name.lower()):
            return model
    import difflib

    ids = [model.id for model in catalogue.models]
    near = [id for id in ids if wanted and wanted in id] + difflib.get_close_matches(wanted, ids, n=3, cutoff=0.5)
    also = f"; did you mean {' or '.join(list(dict.fromkeys(near))[:3])}?" if near else ""
    raise NotFoundError(f"there is no model named {name!r}{also}", hint=LIST_HINT)


def candidates(catalogue: Catalogue, name: str | None, find: Callable[[Source], Path | None]) -> tuple[Candidate, ...]:
    """Every model with every file of it; with ``name`` (``MODEL`` or ``MODEL:QUANT``) those of one model only.

    ``find`` is the store's: a verified file of this machine, or None. Raises NotFoundError.
    """
    if name is None:
        chosen: Iterable[Model] = catalogue.models
        quant = None
    else:
        model, quant = _named(catalogue, name), _split(name)[1]
        chosen = (model,)
        if quant and not any(artifact.quant.lower() == quant.lower() for artifact in model.artifacts):
            there = ", ".join(artifact.quant for artifact in model.artifacts)
            raise NotFoundError(
                f"{model.name} has no {quant} in the catalogue, but {there}", hint=f"llmctl plan {model.id}"
            )
    return tuple(
        Candidate(model, artifact, find(artifact.source))
        for model in chosen
        for artifact in model.artifacts
        if quant is None or artifact.quant.lower() == quant.lower()
    )


_named = find  # by this name inside functions that are given a ``find`` of their own


def _split(name: str) -> tuple[str, str | None]:
    model, _, quant = name.strip().partition(":")
    return model, quant or None


def _read(file: Path, problems: list[ProfileProblem]) -> list[tuple[Model, int | None]]:
    """The models of one file, each with the line it begins at."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            problems.append(ProfileProblem(file, None, f"is larger than {MAX_FILE_BYTES:,} bytes"))
            return []
        text = raw.decode("utf-8")
        table = Table(tomllib.loads(text), "")
    except OSError as error:
        problems.append(ProfileProblem(file, None, f"can't be read: {error.strerror}"))
        return []
    except UnicodeDecodeError:
        problems.append(ProfileProblem(file, None, "is not UTF-8 text"))
        return []
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        problems.append(ProfileProblem(file, None, f"is not valid TOML: {error}", int(found[1]) if found else None))
        return []
    except (ValueError, RecursionError) as error:  # a number too long, nesting too deep
        problems.append(ProfileProblem(file, None, f"can't be read: {error}"))
        return []
    try:
        openness = _openness(table.tables("openness"))
        entries = table.tables("model")
        table.end()
    except WrongFieldError as error:
        problems.append(ProfileProblem(file, error.field, error.expected, _first(text, error.field)))
        return []
    models = []
    for nth, entry in enumerate(entries, 1):
        try:
            models.append((_model(entry, openness), position(text, "[[model]]", nth, "id")))
        except WrongFieldError as error:
            problems.append(
                ProfileProblem(file, error.field, error.expected, position(text, "[[model]]", nth, error.field))
            )
    return models


def _first(text: str, field: str) -> int | None:
    """The line of a field outside the models, or of the heading of its table."""
    heading = re.sub(r"\[\d+\]", "", field)
    key = re.compile(rf"\s*\"?{re.escape(heading.rsplit('.', 1)[-1])}\"?\s*=|\s*\[+{re.escape(heading)}\]+")
    return next((n for n, line in enumerate(text.splitlines(), 1) if key.match(line)), None)


def _openness(tables: Sequence[Table]) -> dict[str, Openness]:
    """Entries of the index, without the match, which is each model's own."""
    entries = {}
    for table in tables:
        grades = table.text_map("grades")
        table.check(set(grades.values()) <= GRADES, "grades", "grades of " + ", ".join(sorted(GRADES)))
        entry = Openness(table.text("entry"), table.text("graded_on"), "", table.text("source"), grades)
        table.end()
        entries[entry.entry] = entry
    return entries


def _model(table: Table, entries: dict[str, Openness]) -> Model:
    context = table.count("context")
    model = Model(
        id=table.text("id"),
        name=table.text("name"),
        publisher=table.text_or_none("publisher"),
        licence=table.text_or_none("licence"),
        base_model=table.text_or_none("base_model"),
        released=table.day_or_none("released"),
        parameters=table.count_or_none("parameters"),
        active_parameters=table.count_or_none("active_parameters"),
        languages=table.texts("languages"),
        tasks=table.texts("tasks"),
        thinking=table.kind("thinking", Thinking, Thinking.NEVER),
        starter=table.flag("starter"),
        sampling=_sampling(table),
        sources=table.text_map("sources"),
        openness=_graded(table, entries),
        evidence=tuple(map(_evidence, table.tables("evidence"))),
        shape=_shape(table.table("shape"), context),
        artifacts=tuple(map(_artifact, table.tables("file"))),
    )
    table.check(
        bool(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", model.id)), "id", "lower case letters, digits, '.', '-', '_'"
    )
    table.check({"facts", "shape"} <= set(model.sources), "sources", "a table with at least facts and shape")
    quants = [artifact.quant for artifact in model.artifacts]
    table.check(bool(quants) and len(set(quants)) == len(quants), "file", "one or more files, each of another quant")
    table.end()
    return model


def _sampling(table: Table) -> dict[str, int | float] | None:
    """What the model's publisher recommends, in the engine's own names."""
    values = table.numbers("sampling")
    for name in values:
        table.check(name in SAMPLING, f"sampling.{name}", "one of " + ", ".join(SAMPLING))
    table.check(isinstance(values.get("top_k", 0), int), "sampling.top_k", "a whole number")
    return values or None


def _graded(table: Table, entries: dict[str, Openness]) -> Openness | None:
    link = table.table_or_none("openness")
    if link is None:
        return None
    name, match = link.text("entry"), link.text("match")
    link.check(name in entries, "entry", "an entry of this file's [[openness]]")
    link.end()
    entry = entries[name]
    return Openness(entry.entry, entry.graded_on, match, entry.source, entry.grades)


def _shape(table: Table, context: int) -> Shape:
    """``kv`` has a row for each kind of layer that caches: how many, their key heads, the width of a key and of a value
    (the same unless ``value_dim`` says otherwise), and the window where they have one. Layers that share another's
    cache are not in it."""
    full = windowed = key_length = value_length = 0
    windows = set()
    values: list[tuple[int, int, bool]] = []  # layers, elements of a layer's values, whether there is a window
    for row in table.tables("kv"):
        layers, heads, key = row.count("layers"), row.count("heads"), row.count("head_dim")
        value = row.count_or_none("value_dim") or key
        window = row.count_or_none("window")
        row.end()
        key_length, value_length = max(key_length, key), max(value_length, value)
        values.append((layers, heads * value, window is not None))
        width = layers * heads * (key + value)
        if window is None:
            full += width
        else:
            windowed += width
            windows.add(window)
    widest = max((width for _, width, _ in values), default=0)
    padding = [sum(layers * (widest - width) for layers, width, limited in values if limited == one) for one in (0, 1)]
    table.check(len(windows) <= 1, "kv", "rows with one and the same window")
    shape = Shape(
        architecture=table.text("architecture"),
        n_layer=table.count("n_layer"),
        n_embd=table.count("n_embd"),
        n_head=table.count("n_head"),
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
    )
    table.end()
    return shape


def _artifact(table: Table) -> Artifact:
    types, expert_types = table.counts("types"), table.counts("expert_types")
    table.check(bool(types) and types.keys() <= QUANT_BY_NAME.keys(), "types", "bytes by ggml weight type")
    table.check(expert_types.keys() <= types.keys(), "expert_types", "a part of types")
    weights = Weights(
        total_bytes=table.count("tensor_bytes"),
        embedding_bytes=table.count_or_none("lookup_bytes") or 0,
        expert_bytes=sum(expert_types.values()),
        type_bytes=types,
        exact=table.flag("exact"),
        expert_type_bytes=expert_types,
    )
    artifact = Artifact(
        quant=table.text("quant"),
        source=Source(
            kind=table.kind("kind", SourceKind, SourceKind.HUB),
            repo=table.text("repo"),
            file=table.text("file"),
            bytes=table.count("bytes"),
            sha256=table.digest_or_none("sha256"),
            revision=table.text_or_none("revision") or "main",
        ),
        weights=weights,
        projector_bytes=table.count_or_none("projector_bytes") or 0,
        draft_bytes=table.count_or_none("draft_bytes") or 0,
    )
    parts = sum(types.values()) + weights.embedding_bytes
    table.check(parts <= weights.total_bytes, "tensor_bytes", f"at least its parts, {parts:,}")
    table.check(weights.total_bytes <= (artifact.source.bytes or 0), "bytes", "at least tensor_bytes")
    table.end()
    return artifact


def _evidence(table: Table) -> Evidence:
    evidence = Evidence(
        benchmark=table.text("benchmark"),
        score=table.number("score"),
        source=table.text("source"),
        thinking=table.flag("thinking"),
        setting=table.text_or_none("setting"),
        self_reported=table.flag("self_reported"),
        estimated=table.flag("estimated"),
    )
    table.end()
    return evidence
