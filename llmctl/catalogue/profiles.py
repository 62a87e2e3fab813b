"""Reads the catalogue of models: ``profiles/models/*.toml``, and the user's own folder laid over it.

The format of a file, by example: ``profiles/models/gemma-4.toml``; ``catalogue.entry`` reads it. Every fact stands
beside the address that states it; what is unknown is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import tomli
from msgspec import Struct

from llmctl.catalogue import entry, family, openness, refreshed
from llmctl.catalogue.refreshed import Refreshed
from llmctl.errors import NotFoundError
from llmctl.files.decode import FieldError, Table
from llmctl.near import did_you_mean, near
from llmctl.shell import command
from llmctl.types.model import Candidate, Model, Source

MAX_FILE_BYTES = 1 << 20
LIST_HINT = "llmctl models list --all"


class ProfileProblem(Struct, frozen=True):
    """What is wrong in a profile: ``problem`` follows the field's name, or the file's; ``line`` counts from 1, None if
    not known."""

    file: Path
    field: str | None
    problem: str
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{place}: {self.field} {self.problem}" if self.field else f"{place}: {self.problem}"


Models = list[tuple[Model, Callable[[], int | None]]]
"""The models of a file, each with what looks up the line it begins at."""


class Catalogue(Struct, frozen=True):
    """All models that could be read, in the order of the files, and what could not."""

    models: tuple[Model, ...]
    problems: tuple[ProfileProblem, ...] = ()


def load(folder: Path, overlay: Path | None = None, *, as_refreshed: bool = True) -> Catalogue:
    """Every model of ``folder``, with those of ``overlay`` added, or put in the place of the same id, and with what the
    hub said when ``overlay`` was refreshed (unless not ``as_refreshed``).

    Nothing raises: a file or model that is written wrongly is a problem, and all others are there.
    """
    models: dict[str, Model] = {}
    problems: list[ProfileProblem] = []
    refreshes: list[Refreshed] = []
    for place in (folder, overlay):
        of_folder: dict[str, Model] = {}
        for file in sorted(place.glob("*.toml")) if place is not None and place.is_dir() else ():
            for model, line in _read(file, problems, refreshes):
                if model.id in of_folder:
                    problem = f"must be unlike that of another model: {model.id}"
                    problems.append(ProfileProblem(file, "id", problem, line()))
                else:
                    of_folder[model.id] = model
        models |= of_folder
    models = refreshed.apply(models, refreshes if as_refreshed else ())
    return Catalogue(tuple(models.values()), tuple(problems))


def find(catalogue: Catalogue, name: str) -> Model:
    """The model of that id or name, in any case; a ``:QUANT`` is ignored. Raises NotFoundError, with similar names."""
    wanted = _split(name)[0].lower()
    for model in catalogue.models:
        if wanted in (model.id.lower(), model.name.lower()):
            return model
    also = did_you_mean(near(wanted, (model.id for model in catalogue.models), inside=True))
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
            quants = ", ".join(artifact.quant for artifact in model.artifacts)
            raise NotFoundError(
                f"{model.name} has no {quant} in the catalogue, but {quants}",
                hint=command("llmctl", "plan", names=[model.id]),
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


def _read(file: Path, problems: list[ProfileProblem], refreshes: list[Refreshed]) -> Models:
    """The models of one file; what the hub said of them is added to ``refreshes``."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            problems.append(ProfileProblem(file, None, f"is larger than {MAX_FILE_BYTES:,} bytes"))
            return []
        text = raw.decode("utf-8")
        table = Table(tomli.loads(text), "")
    except OSError as error:
        problems.append(ProfileProblem(file, None, f"can't be read: {error.strerror}"))
        return []
    except UnicodeDecodeError:
        problems.append(ProfileProblem(file, None, "is not UTF-8 text"))
        return []
    except tomli.TOMLDecodeError as error:
        match = re.search(r"line (\d+)", str(error))
        problems.append(ProfileProblem(file, None, f"is not valid TOML: {error}", int(match[1]) if match else None))
        return []
    except (ValueError, RecursionError) as error:  # a number too long, nesting too deep
        problems.append(ProfileProblem(file, None, f"can't be read: {error}"))
        return []
    try:
        graded = openness.entries(table.tables("openness"))
        entries = table.tables("model")
        answers = table.tables(refreshed.TABLE)
        table.end()
    except FieldError as error:
        problems.append(ProfileProblem(file, error.field, error.problem, _first(text, error.field)))
        return []
    for nth, row in enumerate(answers, 1):
        try:
            refreshes.append(refreshed.read(row))
        except FieldError as error:
            line = _position(text, f"[[{refreshed.TABLE}]]", nth, error.field)
            problems.append(ProfileProblem(file, error.field, error.problem, line))
    models, lines = [], []
    for nth, row in enumerate(entries, 1):
        try:
            models.append(entry.model(row, graded))
            lines.append(partial(_position, text, "[[model]]", nth, "id"))
        except FieldError as error:
            problems.append(
                ProfileProblem(file, error.field, error.problem, _position(text, "[[model]]", nth, error.field))
            )
    return list(zip(family.related(models), lines, strict=True))


def _first(text: str, field: str) -> int | None:
    """The line of a field outside the models, or of the heading of its table."""
    heading = re.sub(r"\[\d+\]", "", field)
    key = re.compile(rf"\s*\"?{re.escape(heading.rsplit('.', 1)[-1])}\"?\s*=|\s*\[+{re.escape(heading)}\]+")
    return next((n for n, line in enumerate(text.splitlines(), 1) if key.match(line)), None)


def _position(text: str, heading: str, nth: int, field: str) -> int | None:
    """The line (from 1) of ``field`` in the ``nth`` (from 1) table of that ``heading``, or where that table begins.

    An aid for a person, found by looking for the words: None where they aren't written plainly.
    """
    lines = text.splitlines()
    starts = [n for n, line in enumerate(lines) if line.strip() == heading]
    if not 1 <= nth <= len(starts):
        return None
    start = starts[nth - 1]
    end = starts[nth] if nth < len(starts) else len(lines)
    key = re.escape(field.rsplit(".", 1)[-1].split("[")[0])
    matches: Callable[[str], object] = re.compile(rf"(^|[{{,])\s*\"?{key}\"?\s*=").search
    return next((n + 1 for n in range(start, end) if matches(lines[n])), start + 1)
