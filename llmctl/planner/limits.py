"""Limits that have nothing to do with the machine: what a model is for, speaks, costs to fetch, and how open it is."""

from __future__ import annotations

from msgspec import Struct

from llmctl import units
from llmctl.catalogue.knowledge import Quality, Task
from llmctl.catalogue.openness import admits, lacking
from llmctl.types.model import Candidate, Model
from llmctl.types.openness import DIMENSIONS, Level
from llmctl.types.plan import Want

FAR = 1e9  # the gap of what no machine will change; it stands behind all that is short of something
ALL_LANGUAGES = "multilingual"


class Broken(Struct, frozen=True):
    """``what`` names the limit as ``judge.Obstacle`` does; ``gap`` is how far off it is, as a share."""

    what: str
    reason: str
    gap: float = FAR


def broken(candidate: Candidate, want: Want, task: Task, quality: Quality) -> Broken | None:
    """The first limit that a candidate breaks. What was asked for by name is not held to be for the task."""
    model = candidate.model
    if not want.explicit and task.needs not in model.tasks:
        if task.sees:
            return Broken("task", "is not said to see pictures")
        return Broken("task", f"is for {', '.join(model.tasks) or 'continuing text'}, not for {task.needs}")
    if task.sees and not projector_bytes(candidate, task):
        return Broken("task", "has no projector here, so that it can't see pictures")
    if want.architectures is not None and model.shape.architecture not in want.architectures:
        return Broken("engine", f"is of an architecture that the engine here does not know: {model.shape.architecture}")
    if want.language is not None and not speaks(model, want.language, quality):
        listed = f"its publisher lists {', '.join(model.languages)}" if model.languages else "its publisher lists none"
        return Broken("language", f"is not said to know the language {want.language}: {listed}")
    if want.licence is not None and not admits(model, licence=want.licence):
        return Broken("licence", f"is under {model.licence or 'an unknown licence'}, {want.licence} is asked for")
    if want.openness is not None and (missing := lacking(model, Level(want.openness))):
        named = ", ".join(f"{DIMENSIONS[name]} {grade or 'not graded'}" for name, grade in missing.items())
        return Broken("openness", f"is less open than {want.openness}: {named}")
    if want.installed and candidate.path is None:
        return Broken("installed", "is not on this machine")
    size, most = download_bytes(candidate, task), want.max_download_bytes
    if most is not None and size > most:
        reason = f"is a download of {units.size(size)}, at most {units.size(most)} is allowed"
        return Broken("download", reason, size / max(most, 1) - 1)
    return None


def speaks(model: Model, language: str, quality: Quality) -> bool:
    """Whether a model's publisher lists the language, by its code, or, where none are listed, a benchmark tested the
    model in it."""
    if {language.lower(), ALL_LANGUAGES} & {code.lower() for code in model.languages}:
        return True
    tested = (quality.benchmarks.get(result.benchmark) for result in model.evidence)
    return any(language.lower() in benchmark.languages for benchmark in tested if benchmark is not None)


def projector_bytes(candidate: Candidate, task: Task) -> int:
    """The vision projector's weights: of the one that lies with the file, or, for a task that needs one, of the one
    that the catalogue names."""
    named = candidate.model.projector if task.sees else None
    return candidate.artifact.projector_bytes or (named.bytes or 0 if named is not None else 0)


def download_bytes(candidate: Candidate, task: Task) -> int:
    """What is to be fetched: nothing of what is here."""
    return 0 if candidate.path is not None else candidate.artifact.bytes + projector_bytes(candidate, task)
