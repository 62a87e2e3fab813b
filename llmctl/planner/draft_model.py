"""A smaller model that drafts for another: what both take in memory, and how much faster an answer is expected to be
written. Pure.

A draft of some tokens costs as many steps of the small model and a batch of the large one, and brings one token more
than were right. On a processor a batch of eight takes as long as three to eight steps, so that a draft model pays only
where it is small and right; on a GPU it takes little longer than one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from llmctl.types.machine import Accelerator, Machine
from llmctl.types.past import PastRun
from llmctl.types.plan import DeviceMemory, Draft, Fit, MemoryPlan

COUNTS = (1, 3, 7, 15)  # tokens of a draft: the engine tries these
# Of the tokens of a draft, from a model of the same family that is some ten times smaller; counts as so many tokens.
EXPECTED_RIGHT, EXPECTED_WEIGHT = 0.7, 200
LEAST_GAIN = 1.15  # with less nobody loads a second model
PARTS = ("weights_bytes", "repacked_bytes", "kv_bytes", "state_bytes", "compute_bytes", "total_bytes")


def machine_beside(machine: Machine, fit: Fit) -> Machine:
    """``machine`` with what is free beside ``fit``."""
    held = {row.device: row.total_bytes for row in fit.memory.by_device}
    memory = machine.memory
    return replace(
        machine,
        memory=replace(memory, available_bytes=max(0, memory.available_bytes - fit.memory.must_fit_bytes)),
        accelerators=tuple(_beside(card, held) for card in machine.accelerators),
    )


def _beside(card: Accelerator, held: Mapping[str, int]) -> Accelerator:
    if card.memory_free_bytes is None:
        return card
    return replace(card, memory_free_bytes=max(0, card.memory_free_bytes - held.get(card.id, 0)))


def with_draft(fit: Fit, drafting: Fit, depth: int, past: Sequence[PastRun], *, is_asked_for: bool) -> Fit:
    """``fit`` with the model of ``drafting``, which was planned for what is free beside it, for answers with ``depth``
    tokens before them; ``past`` runs tell how often its drafts are right."""
    count, gain = best(fit, drafting, depth, right_share(fit, drafting, past))
    draft = Draft(drafting.candidate, drafting.configuration, count, gain, is_asked_for)
    return replace(fit, draft=draft, memory=_together(fit.memory, drafting.memory))


def right_share(fit: Fit, drafting: Fit, past: Sequence[PastRun]) -> float:
    """The share of drafted tokens that is right, by what has come of this model's drafts for the other so far."""
    names = fit.candidate.model.id, drafting.candidate.model.id
    runs = [run for run in past if (run.model, run.draft) == names]
    right = EXPECTED_RIGHT * EXPECTED_WEIGHT + sum(run.accepted_tokens for run in runs)
    return right / (EXPECTED_WEIGHT + sum(run.compared_tokens for run in runs))


def best(fit: Fit, drafting: Fit, depth: int, right: float) -> tuple[int, float]:
    """How many tokens a draft should have, and how many times as fast an answer is written then, where the share
    ``right`` of drafted tokens is."""
    return max(((count, _gain(fit, drafting, depth, count, right)) for count in COUNTS), key=lambda pair: pair[1])


def _gain(fit: Fit, drafting: Fit, depth: int, count: int, right: float) -> float:
    step_s = fit.speed_model.decode_s(depth)
    batch_s = fit.speed_model.batch_s(count + 1, depth)
    draft_s = count * drafting.speed_model.decode_s(depth)
    expected = sum(right**number for number in range(count + 1))
    return expected * step_s / (batch_s + draft_s)


def _together(first: MemoryPlan, second: MemoryPlan) -> MemoryPlan:
    return replace(
        first,
        by_device=tuple(_sums(first.by_device, second.by_device)),
        must_fit_bytes=first.must_fit_bytes + second.must_fit_bytes,
        mapped_bytes=first.mapped_bytes + second.mapped_bytes,
        touched_bytes=first.touched_bytes + second.touched_bytes,
    )


def _sums(rows: Iterable[DeviceMemory], others: Iterable[DeviceMemory]) -> Iterable[DeviceMemory]:
    more = {row.device: row for row in others}
    for row in rows:
        other = more.get(row.device)
        sums = {} if other is None else {part: getattr(row, part) + getattr(other, part) for part in PARTS}
        yield replace(row, **sums)
