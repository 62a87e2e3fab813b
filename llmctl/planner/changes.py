"""Finds what would give a better choice: more memory, a limit taken off, no speed floor. Each is planned anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from llmctl.planner.devices import devices
from llmctl.planner.judge import Judge
from llmctl.planner.miss import Miss
from llmctl.planner.reasons import card_name
from llmctl.planner.value import value
from llmctl.types.machine import AcceleratorKind, Machine
from llmctl.types.model import Candidate
from llmctl.types.plan import Change, Fit, RejectionCode

GIB = 1 << 30
STEPS_BYTES = tuple(size * GIB for size in (2, 4, 8, 16, 32, 64))  # of memory, as it is bought
MOST_TRIED = 12  # candidates that are planned again for one step
CLEARLY_BETTER = 2  # index points; less is no difference
# The limits that a wish sets, what takes each off, and that in words.
LIMITS: tuple[tuple[RejectionCode, dict[str, Any], str], ...] = (
    (RejectionCode.ROOM, {"tight": True}, "with no room for other programs (--tight)"),
    (RejectionCode.LANGUAGE, {"language": None}, "without --lang"),
    (RejectionCode.OPENNESS, {"openness": None}, "without --open"),
    (RejectionCode.LICENCE, {"licence": None}, "without --licence"),
    (RejectionCode.INSTALLED, {"installed": False}, "with a download"),
    (RejectionCode.DOWNLOAD, {"max_download_bytes": None}, "without --max-download"),
)


def changes(judge: Judge, choice: Fit, misses: Sequence[Miss], slow: Sequence[Fit]) -> tuple[Change, ...]:
    """What would give something clearly better than ``choice``: a limit taken off, more memory, or no speed floor.

    ``slow`` are the fits that miss a floor. Of memory it is the smallest step of STEPS_BYTES that helps. Nothing where
    the candidates were asked for by name.
    """
    if judge.want.explicit:
        return ()
    possible = [*_by_limits(judge, choice, misses), *_by_memory(judge, choice, misses, slow)]
    fastest = [fit for fit in slow if _better(fit, choice)]
    if fastest:
        best = max(fastest, key=lambda fit: (fit.quality or 0, fit.speed.decode_tok_s))
        possible.append(Change("without the speed floor", best))
    return tuple(possible)


def _by_limits(judge: Judge, choice: Fit, misses: Sequence[Miss]) -> Iterator[Change]:
    for code, free, words in LIMITS:
        broken_by = [miss for miss in misses if miss.rejected.code is code]
        if broken_by and (best := _best(replace(judge, want=replace(judge.want, **free)), broken_by, choice)):
            yield Change(words, best)


def _by_memory(judge: Judge, choice: Fit, misses: Sequence[Miss], slow: Sequence[Fit]) -> Iterator[Change]:
    """The smallest step of more memory that helps: on the largest card, or of the machine's own where it has none."""
    short = [miss for miss in misses if miss.rejected.code in (RejectionCode.MEMORY, RejectionCode.ROOM)]
    spilled = {_id(fit.candidate) for fit in slow if len(fit.memory.by_device) > 1}
    short += [miss for miss in misses if miss.rejected.code is RejectionCode.SPEED and _id(miss.candidate) in spilled]
    for step in STEPS_BYTES:
        if step > max(STEPS_BYTES[1], judge.machine.memory.total_bytes):  # that would be another machine
            return
        machine, where = _with_more(judge.machine, step)
        if short and (best := _best(replace(judge, machine=machine), short, choice)):
            yield Change(f"with {step // GIB} GB more {where}", best)
            return


def _with_more(machine: Machine, size: int) -> tuple[Machine, str]:
    used = devices(machine)
    cards = [device for device in used if device.kind is AcceleratorKind.DISCRETE]
    if not cards:
        memory = machine.memory
        more = replace(memory, total_bytes=memory.total_bytes + size, available_bytes=memory.available_bytes + size)
        grown = {gpu.id: replace(gpu, memory_free_bytes=(gpu.memory_free_bytes or 0) + size) for gpu in used}
        accelerators = tuple(grown.get(gpu.id, gpu) for gpu in machine.accelerators)
        return replace(machine, memory=more, accelerators=accelerators), "memory"
    largest = max(cards, key=lambda card: card.memory_free_bytes or 0)
    grown_card = replace(largest, memory_free_bytes=(largest.memory_free_bytes or 0) + size)
    accelerators = tuple(grown_card if gpu is largest else gpu for gpu in machine.accelerators)
    return replace(machine, accelerators=accelerators), f"on the {card_name(largest.id, machine)}"


def _best(judge: Judge, misses: Sequence[Miss], choice: Fit) -> Fit | None:
    """The first of the candidates, by quality, that fits, is fast enough and is clearly better with ``judge``."""
    graded, least = [], value(choice, judge) + CLEARLY_BETTER
    for miss in misses:
        grade = judge.grade(miss.candidate.model, miss.candidate.artifact, judge.thinks(miss.candidate))
        if grade is not None and grade.index >= least:
            graded.append((-grade.index, miss.candidate.artifact.bytes, miss.candidate.model.id, miss.candidate))
    graded.sort(key=lambda entry: entry[:3])
    for *_, candidate in graded[:MOST_TRIED]:
        fit = judge.fit(candidate)
        if isinstance(fit, Fit) and judge.too_slow(fit) is None and value(fit, judge) >= least:
            return fit
    return None


def _better(fit: Fit, choice: Fit) -> bool:
    return (fit.quality or 0) >= (choice.quality or 0) + CLEARLY_BETTER


def _id(candidate: Candidate) -> tuple[str, str]:
    return candidate.model.id, candidate.artifact.quant
