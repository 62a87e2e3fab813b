"""A plan for files on this machine, for which the engine itself is asked what it would allocate, or why it can't."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from llmctl.engine import devices
from llmctl.engine.llama_cpp.dry_run import dry_run, refusal, remembered
from llmctl.engine.llama_cpp.refusal import Refusal
from llmctl.errors import IntegrityError, LlmctlError, UnsupportedFileError
from llmctl.gguf.kind import CHOOSE_HINT
from llmctl.gguf.sound import HINT
from llmctl.host import Host
from llmctl.types.machine import EngineInfo
from llmctl.types.model import Candidate, SourceKind
from llmctl.types.plan import Allocation, Configuration, MemoryBasis, NoFit, Plan, Rejected, Want
from llmctl.workspace.situation import Situation

MOST_QUESTIONS = 3  # where the engine takes more than the formulas say, other settings are chosen, and asked about


def plan(found: Situation, candidates: Sequence[Candidate], wanted: Want, *, ask: bool = True) -> Plan | NoFit:
    """As ``Situation.plan``, but the choice has the engine's own figures where it can give them: its file is here, and
    the machine is this one. Without ``ask`` only those that it gave before.

    What the engine here refuses to load is not chosen but rejected. Raises IntegrityError or UnsupportedFileError
    where that is all there is.
    """
    left = list(candidates)
    rejected: list[Rejected] = []
    while True:
        answer = _plan(found, left, wanted, ask=ask)
        chosen = _in_question(found, answer, left)
        refused = None if chosen is None else _refusal(found, chosen, ask=ask)
        if chosen is None or refused is None:
            return replace(answer, rejected=(*rejected, *answer.rejected))
        if len(left) == 1:
            raise _error(chosen, refused)
        left.remove(chosen)
        model, quant = chosen.model, chosen.artifact.quant
        rejected.append(Rejected(model.id, quant, refused.reason, name=model.name))


def _plan(found: Situation, candidates: Sequence[Candidate], wanted: Want, *, ask: bool) -> Plan | NoFit:
    """With what the engine would allocate, as far as it says so."""
    engine = None if found.elsewhere else devices.startable(found.engines)
    allocations: dict[tuple[Path, Configuration], Allocation] = {}
    for _ in range(MOST_QUESTIONS):
        answer = found.plan(candidates, wanted, allocations)
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
    return found.plan(candidates, wanted, allocations)


def _in_question(found: Situation, answer: Plan | NoFit, candidates: Sequence[Candidate]) -> Candidate | None:
    """The file that the engine may refuse: the one that was chosen, unless the engine itself gave its figures, or the
    only one, which may be broken, too, where it doesn't fit. What is of an unknown architecture is refused already."""
    if isinstance(answer, NoFit):
        loadable = found.loadable(candidates)
        alone = len(candidates) == 1 and (loadable is None or candidates[0].model.shape.architecture in loadable)
        return candidates[0] if alone else None
    return answer.choice.candidate if answer.choice.memory.basis is not MemoryBasis.ENGINE else None


def _refusal(found: Situation, candidate: Candidate, *, ask: bool) -> Refusal | None:
    """Why the engine here can't load a file that is here. A file that was named is always asked about."""
    engine = _engine(found)
    if engine is None or candidate.path is None:
        return None
    named = candidate.artifact.source.kind is SourceKind.LOCAL
    return refusal(Host(), engine, candidate.path, ask=ask or named)


def _engine(found: Situation) -> EngineInfo | None:
    """The engine on this machine, for whatever machine the plan is."""
    return devices.startable(devices.engines(Host()) if found.elsewhere else found.engines)


def _error(candidate: Candidate, refused: Refusal) -> LlmctlError:
    message = f"{candidate.path} {refused.reason}"
    return IntegrityError(message, hint=HINT) if refused.broken else UnsupportedFileError(message, hint=CHOOSE_HINT)
