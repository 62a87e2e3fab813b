"""A plan for what a person names, or for all there is. For files on this machine the engine itself is asked what it
would allocate, or why it can't."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from llmctl.engine import devices
from llmctl.engine.llama_cpp.dry_run import dry_run, refusal, remembered
from llmctl.engine.llama_cpp.refusal import FileRefusal
from llmctl.errors import IntegrityError, LlmctlError, UnsupportedFileError
from llmctl.gguf import tensor_list
from llmctl.gguf.kind import CHOOSE_HINT
from llmctl.gguf.shards import read_model
from llmctl.gguf.sound import HINT
from llmctl.host import Host
from llmctl.types.machine import EngineInfo
from llmctl.types.model import Candidate, SourceKind
from llmctl.types.plan import (
    Allocation,
    Configuration,
    DeviceMemory,
    Draft,
    MemoryBasis,
    NoFit,
    Plan,
    Rejected,
    RejectionCode,
    Want,
)
from llmctl.types.speed_model import DraftForecast
from llmctl.workspace import draft, projectors
from llmctl.workspace.present import Present, present
from llmctl.workspace.situation import Situation

MOST_QUESTIONS = 3  # where the engine takes more than the formulas say, other settings are chosen, and asked about
TASKS_WITHOUT_WORDS = ("embed", "rerank")


class Planned(Struct, frozen=True):
    """``want`` is what was planned for: the task is the model's own where none was asked for. ``drafts``: what drafted
    tokens would bring, ``draft_model`` the model here that would draft them; None where there are none. ``present`` is
    how fast the choice would be just now, where the machine is busy."""

    answer: Plan | NoFit
    want: Want
    drafts: DraftForecast | None = None
    present: Present | None = None
    draft_model: Draft | None = None


def plan_named(situation: Situation, name: str | None, wanted: Want, *, task: str | None = None) -> Planned:
    """The plan for the model, file or repository ``name``, with the projector beside it; for all of the catalogue
    without. ``task`` stands above the model's own, and that above the one of ``wanted``.

    Raises what ``Situation.candidates`` and ``plan`` raise.
    """
    candidates = situation.candidates(name)
    if name is None:
        wanted = replace(wanted, task=task or wanted.task)
        return _completed(situation, Planned(situation.pick(candidates, wanted), wanted))
    candidates = [projectors.with_projector(candidate, situation.store) for candidate in candidates]
    wanted = replace(wanted, task=task or _own_task(candidates) or wanted.task, explicit=True)
    answer = plan(situation, candidates, wanted)
    if isinstance(answer, NoFit) and any(candidate.artifact.projector_bytes for candidate in candidates):
        without = plan(situation, [projectors.without(candidate) for candidate in candidates], wanted)
        if not isinstance(without, NoFit):
            situation.listener.warn(
                f"with its vision projector it doesn't fit ({answer.reason}); this is for text alone"
            )
            answer = without
    if isinstance(answer, Plan):
        needs, model = situation.knowledge.tasks[wanted.task].needs, answer.choice.candidate.model
        if needs not in model.tasks:
            situation.listener.warn(f"{model.name} is not for {needs}, by its publisher")
    return _completed(situation, Planned(answer, wanted))


def _completed(situation: Situation, planned: Planned) -> Planned:
    return replace(_with_drafts(situation, planned), present=present(situation, planned.answer))


def _with_drafts(situation: Situation, planned: Planned) -> Planned:
    from llmctl.planner.drafts import draft_forecast

    if isinstance(planned.answer, NoFit) or not situation.settings.speculate:
        return planned
    depth = situation.knowledge.tasks[planned.want.task].prompt_tokens
    choice = planned.answer.choice
    drafting = draft.with_best(situation, choice, planned.want) if choice.candidate.path is not None else choice
    forecast = draft_forecast(choice, depth, situation.past, situation.knowledge.speed.ranges["together"])
    return replace(planned, drafts=forecast, draft_model=drafting.draft)


def _own_task(candidates: Sequence[Candidate]) -> str | None:
    """What a model that doesn't chat is for; None leaves it to the settings."""
    tasks = candidates[0].model.tasks if candidates else ()
    return next((task for task in TASKS_WITHOUT_WORDS if task in tasks and "chat" not in tasks), None)


def kept_free_bytes(row: DeviceMemory) -> int:
    """What a plan leaves free on a device, for what no formula tells."""
    from llmctl.planner.memory import margin_bytes

    return margin_bytes(row.available_bytes)


def plan(situation: Situation, candidates: Sequence[Candidate], wanted: Want, *, ask: bool = True) -> Plan | NoFit:
    """As ``Situation.plan``, but the choice has the engine's own figures where it can give them: its file is here, and
    the machine is this one. Without ``ask`` only those that it gave before.

    What the engine here refuses to load is not chosen but rejected. Raises IntegrityError or UnsupportedFileError
    where that is all there is.
    """
    left = list(candidates)
    rejected: list[Rejected] = []
    while True:
        answer = _plan(situation, left, wanted, ask=ask)
        chosen = _in_question(situation, answer, left)
        refused = None if chosen is None else _refusal(situation, chosen, ask=ask)
        if chosen is None or refused is None:
            answer = replace(answer, rejected=(*rejected, *answer.rejected))
            situation.keep(candidates, wanted, answer)
            return answer
        if len(left) == 1:
            raise _error(chosen, refused)
        left.remove(chosen)
        model, quant = chosen.model, chosen.artifact.quant
        rejected.append(Rejected(model.id, quant, RejectionCode.ENGINE, refused.reason, name=model.name))


def _plan(situation: Situation, candidates: Sequence[Candidate], wanted: Want, *, ask: bool) -> Plan | NoFit:
    """With what the engine would allocate, as far as it says so."""
    engine = None if situation.elsewhere else devices.startable(situation.engines)
    allocations: dict[tuple[Path, Configuration], Allocation] = {}
    for _ in range(MOST_QUESTIONS):
        answer = situation.plan(candidates, wanted, allocations)
        if engine is None or isinstance(answer, NoFit) or (path := answer.choice.candidate.path) is None:
            return answer
        configuration = answer.choice.configuration
        if (path, configuration) in allocations:
            return answer
        if ask:
            allocation, _ = dry_run(Host(), engine, path, configuration)
        else:
            allocation = remembered(Host(), engine, path, configuration)
        if allocation is None:
            return answer
        allocations[path, configuration] = allocation
    return situation.plan(candidates, wanted, allocations)


def _in_question(situation: Situation, answer: Plan | NoFit, candidates: Sequence[Candidate]) -> Candidate | None:
    """The file that the engine may refuse: the one that was chosen, unless the engine itself gave its figures, or the
    only one, which may be broken, too, where it doesn't fit. What is of an unknown architecture is refused already."""
    if isinstance(answer, NoFit):
        loadable = situation.loadable(candidates)
        alone = len(candidates) == 1 and (loadable is None or candidates[0].model.shape.architecture in loadable)
        return candidates[0] if alone else None
    return answer.choice.candidate if answer.choice.memory.basis is not MemoryBasis.ENGINE else None


def _refusal(situation: Situation, candidate: Candidate, *, ask: bool) -> FileRefusal | None:
    """Why the engine here can't load a file that is here. A file that was named is always asked about; without an
    engine its header is held against what its architecture needs."""
    if candidate.path is None:
        return None
    named, engine = candidate.artifact.source.kind is SourceKind.LOCAL, _engine(situation)
    if engine is None:
        return _by_its_tensors(candidate.path) if named else None
    return refusal(Host(), engine, candidate.path, ask=ask or named)


def _by_its_tensors(file: Path) -> FileRefusal | None:
    _, header = read_model(file)
    meaning = tensor_list.problem(header)
    return None if meaning is None else FileRefusal(meaning, "", broken=True)


def _engine(situation: Situation) -> EngineInfo | None:
    """The engine on this machine, for whatever machine the plan is."""
    return devices.startable(devices.engines(Host()) if situation.elsewhere else situation.engines)


def _error(candidate: Candidate, refused: FileRefusal) -> LlmctlError:
    message = f"{candidate.path} {refused.reason}"
    return IntegrityError(message, hint=HINT) if refused.broken else UnsupportedFileError(message, hint=CHOOSE_HINT)
