"""Limits that don't depend on the machine: task, language, licence, openness, download."""

from __future__ import annotations

from msgspec import Struct

from llmctl import units
from llmctl.catalogue.knowledge import Quality, Task
from llmctl.catalogue.openness import admits, lacking
from llmctl.types.grade import Grade
from llmctl.types.model import Candidate, Model
from llmctl.types.openness import DIMENSIONS, Level
from llmctl.types.plan import RejectionCode, Want

FAR = 1e9  # the gap where no other machine would help: such misses are listed last
ALL_LANGUAGES = "multilingual"
SPEAKS = 0.5  # of the way from a benchmark's worst score to its best


class Broken(Struct, frozen=True):
    """A limit that a candidate breaks. ``gap`` is how far off it is, as a share."""

    code: RejectionCode
    reason: str
    gap: float = FAR


def broken(candidate: Candidate, want: Want, task: Task, quality: Quality) -> Broken | None:
    """The first limit that a candidate breaks; None if it breaks none. One asked for by name need not fit the task."""
    model = candidate.model
    if not want.explicit and task.needs not in model.tasks:
        if task.sees:
            return Broken(RejectionCode.TASK, "is not listed as a model that sees pictures")
        return Broken(RejectionCode.TASK, f"is for {', '.join(model.tasks) or 'continuing text'}, not for {task.needs}")
    if task.sees and not projector_bytes(candidate, task):
        return Broken(RejectionCode.TASK, "has no vision projector on this machine, so it can't see pictures")
    if want.architectures is not None and model.shape.architecture not in want.architectures:
        return Broken(
            RejectionCode.ENGINE,
            f"has an architecture that the installed engine can't load: {model.shape.architecture}",
        )
    if want.language is not None and not speaks(model, want.language, quality):
        listed = f"its publisher lists {', '.join(model.languages)}" if model.languages else "its publisher lists none"
        return Broken(RejectionCode.LANGUAGE, f"is not listed for the language {want.language}: {listed}")
    if want.licence is not None and not admits(model, licence=want.licence):
        return Broken(
            RejectionCode.LICENCE, f"is under {model.licence or 'an unknown licence'}, {want.licence} is asked for"
        )
    if want.openness is not None and (missing := lacking(model, Level(want.openness))):
        named = ", ".join(f"{DIMENSIONS[name]} {grade or 'not graded'}" for name, grade in missing.items())
        return Broken(RejectionCode.OPENNESS, f"is less open than {want.openness}: {named}")
    if want.installed and candidate.path is None:
        return Broken(RejectionCode.INSTALLED, "is not on this machine")
    size, most = download_bytes(candidate, task), want.max_download_bytes
    if most is not None and size > most:
        reason = f"is a download of {units.size(size)}, at most {units.size(most)} is allowed"
        return Broken(RejectionCode.DOWNLOAD, reason, size / max(most, 1) - 1)
    return None


def too_weak(task: Task, grade: Grade | None) -> Broken | None:
    """The quality that the task asks for, where a model's ``grade`` is below it or nothing is known of it."""
    if task.min_quality is None or (grade is not None and grade.index >= task.min_quality):
        return None
    quality = "no results that a quality could be told by" if grade is None else f"a quality of {grade.index:.0f}"
    reason = f"has {quality}; for {task.name} a model is of use from {task.min_quality}"
    return Broken(RejectionCode.QUALITY, reason)


def speaks(model: Model, language: str, quality: Quality) -> bool:
    """Whether a model's publisher lists the language, by its code, or the model came through the better half of a
    benchmark in it: to have been tested in a language is not to speak it."""
    if {language.lower(), ALL_LANGUAGES} & {code.lower() for code in model.languages}:
        return True
    scales = ((quality.benchmarks.get(result.benchmark), result.score) for result in model.evidence)
    return any(
        language.lower() in scale.languages and (score - scale.worst) / (scale.best - scale.worst) >= SPEAKS
        for scale, score in scales
        if scale is not None
    )


def projector_bytes(candidate: Candidate, task: Task) -> int:
    """The vision projector's weights: of the one that lies with the file, or, for a task that needs one, of the one
    that the catalogue names."""
    named = candidate.model.projector if task.sees else None
    return candidate.artifact.projector_bytes or (named.bytes or 0 if named is not None else 0)


def download_bytes(candidate: Candidate, task: Task) -> int:
    """Bytes to download for a candidate; 0 if it is on this machine."""
    return 0 if candidate.path is not None else candidate.artifact.bytes + projector_bytes(candidate, task)
