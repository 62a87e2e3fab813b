"""What was picked here when the same was asked for before: the planner keeps to it while it is as good as any."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from llmctl.files import measured_cache
from llmctl.types.past import LastPick
from llmctl.types.plan import NoFit, Plan, RejectionCode, Want

if TYPE_CHECKING:
    from llmctl.types.machine import Machine
    from llmctl.types.model import Candidate

SUBJECT = "pick"
FOR_THE_MOMENT = (RejectionCode.MEMORY, RejectionCode.ROOM)
"""Why a pick isn't chosen while other programs hold the memory; it is again when they have ended."""


def read(machine: Machine, candidates: Sequence[Candidate], want: Want) -> LastPick | None:
    """The last pick for this wish; None if there was none or it can't be read, and where a model was named."""
    if want.explicit:
        return None
    try:
        return msgspec.convert(measured_cache.read(SUBJECT, _key(machine, candidates, want)), LastPick | None)
    except msgspec.ValidationError:
        return None


def keep(machine: Machine, candidates: Sequence[Candidate], want: Want, answer: Plan | NoFit) -> None:
    """Notes the choice of ``answer``, unless memory is all that the last pick is short of now. Write errors are
    ignored."""
    last = read(machine, candidates, want)
    if want.explicit or isinstance(answer, NoFit):
        return
    chosen = answer.choice.candidate
    if last is not None and (last.is_of(chosen) or _only_for_now(last, answer)):
        return
    pick = LastPick(chosen.model.id, chosen.artifact.quant, date.today().isoformat())
    measured_cache.write(SUBJECT, _key(machine, candidates, want), msgspec.to_builtins(pick))


def _only_for_now(last: LastPick, answer: Plan) -> bool:
    return any(
        (row.model, row.quant) == (last.model, last.quant) and row.code in FOR_THE_MOMENT for row in answer.rejected
    )


def _key(machine: Machine, candidates: Sequence[Candidate], want: Want) -> tuple[object, ...]:
    """What the pick depends on, but for what changes from one minute to the next."""
    asked = replace(want, prompt_tokens=None, answer_tokens=None, architectures=None)
    cards = [(card.id, card.name, card.memory_total_bytes, card.usable) for card in machine.accelerators]
    size = (machine.memory.limit_bytes, machine.memory.total_bytes, machine.cpu.usable_threads, machine.cpu.quota)
    on_disk = all(candidate.path is not None for candidate in candidates)
    return machine.cpu.name, size, cards, asked, on_disk
