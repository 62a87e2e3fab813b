"""The catalogue that ships is read once a process: it is the same for every command, and takes each 30 ms of CPU."""

from __future__ import annotations

import functools
from pathlib import Path

from llmctl import catalogue, paths
from llmctl.catalogue import profiles
from llmctl.catalogue.profiles import Models, ProfileProblem
from llmctl.catalogue.refreshed import Refreshed
from llmctl.workspace import situation


def read_once() -> None:
    """Its files are read now, for all who load it from now on, who needn't keep it on disk then. Files elsewhere, or
    with a problem, are read each time."""
    folder, from_disk = paths.profiles_dir() / "models", profiles._read

    @functools.cache
    def sound(file: Path) -> Models | None:
        problems: list[ProfileProblem] = []
        refreshes: list[Refreshed] = []
        models = from_disk(file, problems, refreshes)
        return None if problems or refreshes else models

    def read(file: Path, problems: list[ProfileProblem], refreshes: list[Refreshed]) -> Models:
        models = sound(file) if file.parent == folder else None
        return from_disk(file, problems, refreshes) if models is None else models

    profiles._read = read
    situation.load_kept = profiles.load  # type: ignore[attr-defined]  # imported there, not given out
    catalogue.load(folder)
