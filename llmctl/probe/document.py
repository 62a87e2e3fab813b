"""Machine documents: another machine, or this one with figures of the user's choice, as JSON or TOML."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmctl.errors import ConfigError, NotFoundError
from llmctl.probe.decode import MismatchError, decode
from llmctl.types.machine import AcceleratorKind, Machine

LIMIT_BYTES = 1 << 20
SUFFIXES = (".toml", ".json")
ASSUMED_CORES = 4  # what a document that names no processor is planned with; a note says so


def read_machine(path_or_name: str, machines_dir: Path) -> Machine:
    """The machine that a document describes: a file, or the name of one in ``machines_dir``.

    Takes the contract's ``machine`` object or the whole envelope of ``llmctl doctor --json``. Only
    ``memory.total_bytes`` must be there. What is left out: available memory is the total; one of the core counts
    stands for the others; an accelerator is a usable discrete card with all of its memory free.
    Raises NotFoundError, which lists the known names, and ConfigError naming file, field and what was expected.
    """
    file = _file(path_or_name, machines_dir)
    document = _load(file)
    if isinstance(document, Mapping) and "schema" in document:
        document = document.get("data")
    if isinstance(document, Mapping) and "machine" in document:
        document = document["machine"]
    notes: list[str] = []
    try:
        return decode(Machine, _complete(document, notes), "machine")
    except MismatchError as error:
        raise ConfigError(
            f"{file}: {error}",
            hint="llmctl doctor --json   (its machine object is a valid document)",
        ) from error


def known_machines(machines_dir: Path) -> list[str]:
    """The names that ``--machine`` takes."""
    try:
        return sorted({file.stem for file in machines_dir.iterdir() if file.suffix in SUFFIXES})
    except OSError:
        return []


def _file(path_or_name: str, machines_dir: Path) -> Path:
    given = Path(path_or_name).expanduser()
    if given.suffix in SUFFIXES or os.sep in path_or_name:
        if not given.is_file():
            raise NotFoundError(f"there is no machine document {given}", hint="llmctl doctor --json > machine.json")
        return given
    names = known_machines(machines_dir)
    if path_or_name not in names:
        known = ", ".join(names) or "none"
        raise NotFoundError(
            f"there is no machine named {path_or_name} (known: {known})", hint="llmctl doctor --json > machine.json"
        )
    return next(file for s in SUFFIXES if (file := machines_dir / f"{path_or_name}{s}").is_file())


def _load(file: Path) -> Any:
    try:
        with file.open("rb") as stream:
            data = stream.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from error
    if len(data) > LIMIT_BYTES:
        raise ConfigError(f"{file} is larger than {LIMIT_BYTES:,} bytes, that is no machine document")
    try:
        text = data.decode("utf-8")
        return tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if file.suffix == ".toml" else "JSON"
        raise ConfigError(f"{file} is not valid {kind}: {error}") from error


def _complete(document: Any, notes: list[str]) -> Any:
    """``document`` with what was left out filled in; ``decode`` tells what is wrong with the rest."""
    if not isinstance(document, Mapping):
        return document
    machine = dict(document)
    memory = machine.get("memory")
    if isinstance(memory, Mapping) and "total_bytes" in memory:
        machine["memory"] = _filled(memory, {"available_bytes": memory["total_bytes"]})
    machine["cpu"] = _cpu(machine.get("cpu", {}), notes)
    if isinstance(cards := machine.get("accelerators"), list):
        machine["accelerators"] = [_accelerator(card, i) for i, card in enumerate(cards)]
    if isinstance(written := machine.get("notes", []), list):
        machine["notes"] = written + [note for note in notes if note not in written]
    return machine


def _cpu(cpu: Any, notes: list[str]) -> Any:
    if not isinstance(cpu, Mapping):
        return cpu
    counts = ("physical_cores", "usable_threads", "logical_cores")
    given = [cpu[count] for count in counts if count in cpu]
    if not given:
        notes.append(f"the document names no processor: {ASSUMED_CORES} cores are assumed")
        given = [ASSUMED_CORES]
    return _filled(cpu, {"name": "unknown", "arch": "unknown", **dict.fromkeys(counts, given[0])})


def _accelerator(card: Any, index: int) -> Any:
    if not isinstance(card, Mapping):
        return card
    total = card.get("memory_total_bytes")
    left_out = {
        "id": f"accelerator{index}",
        "vendor": "unknown",
        "kind": AcceleratorKind.DISCRETE.value,
        "memory_total_bytes": total,
        "memory_free_bytes": total,
        "usable": True,
    }
    return _filled(card, left_out)


def _filled(given: Mapping[str, Any], left_out: Mapping[str, Any]) -> dict[str, Any]:
    """What was given first, so that an error is told of what the user wrote, not of what stands in for it."""
    return {**given, **{key: value for key, value in left_out.items() if key not in given}}
