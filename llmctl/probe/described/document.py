"""Machine documents: another machine, or this one with figures of the user's choice, as JSON or TOML."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli

from llmctl import paths
from llmctl.errors import ConfigError, NotFoundError
from llmctl.files.decode import FieldError, decode
from llmctl.probe.described import left_out, possible, table
from llmctl.types.machine import Machine

LIMIT_BYTES = 1 << 20
SUFFIXES = (".toml", ".json")
# What to type where something of this machine was not learnt, and its owner knows it
CORRECT = "llmctl doctor --json > machine.json   then correct it, and: llmctl plan --machine machine.json"


def read_machine(path_or_name: str, machines_dir: Path) -> Machine:
    """The machine that a document describes: a file, or the name of one in ``machines_dir``.

    Takes the contract's ``machine`` object or the whole envelope of ``llmctl doctor --json``. Only
    ``memory.total_bytes`` must be there; ``left_out`` says what stands for the rest. A note may be a text.
    Raises NotFoundError, which lists the known names, and ConfigError naming file, field and what was expected.
    """
    file = _file(path_or_name, machines_dir)
    document = _load(file)
    if isinstance(document, Mapping) and "schema" in document:
        document = document.get("data")
    if isinstance(document, Mapping) and "machine" in document:
        document = document["machine"]
    try:
        completed, missing = left_out.complete(document, table.load(paths.profiles_dir()))
        machine = decode(Machine, completed, "machine")
        if missing is not None:
            raise missing
        possible.check(machine)
        return machine
    except FieldError as error:
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
    path = Path(os.path.expanduser(path_or_name))  # noqa: PTH111  pathlib raises where there is no home
    if path.suffix in SUFFIXES or os.sep in path_or_name:
        if not path.is_file():
            raise NotFoundError(f"there is no machine document {path}", hint="llmctl doctor --json > machine.json")
        return path
    names = known_machines(machines_dir)
    if path_or_name not in names:
        listed = ", ".join(names) or "none"
        raise NotFoundError(
            f"there is no machine named {path_or_name} (known: {listed})", hint="llmctl doctor --json > machine.json"
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
        return tomli.loads(text) if file.suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if file.suffix == ".toml" else "JSON"
        raise ConfigError(f"{file} is not valid {kind}: {error}") from error
