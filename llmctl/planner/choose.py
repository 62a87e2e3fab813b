"""Chooses among all candidates: the best that fits and is fast enough, and why each of the others was not chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf

from msgspec.structs import replace

from llmctl import units
from llmctl.catalogue.knowledge import Knowledge
from llmctl.planner.changes import changes
from llmctl.planner.judge import Allocations, Judge
from llmctl.planner.learning import corrections
from llmctl.planner.limits import FAR
from llmctl.planner.miss import Miss
from llmctl.planner.quality import loss
from llmctl.planner.value import NO_DIFFERENCE, quality, value
from llmctl.types.grade import GradeBasis
from llmctl.types.machine import Machine
from llmctl.types.model import Candidate
from llmctl.types.past import LastPick, PastRun
from llmctl.types.plan import Fit, NoFit, Plan, Rejected, RejectionCode, Want

BEST, QUALITY, BALANCED, FASTEST = "best", "quality", "balanced", "fastest"
BALANCED_GAIN = 1.3  # the balanced pick writes at least this much faster than the best one
NOTICED_GAIN = 1.15  # less is about as fast
BALANCED_SIZE = 0.5  # or is at most this much of it to fetch and keep
STILL_GOOD = 15  # the fastest pick is at most so many index points worse
AS_FAST = 0.8  # the fastest pick gives way to a better one that writes at this share of its speed
SPARE_SPEED = 2  # times the floor: what is faster than that is speed to spare
SPARE_MEMORY = 0.5  # of what is free on a device: what takes no more leaves memory to spare


def plan(
    machine: Machine,
    candidates: Sequence[Candidate],
    want: Want,
    knowledge: Knowledge,
    allocations: Allocations | None = None,
    past: Sequence[PastRun] = (),
    last: LastPick | None = None,
) -> Plan | NoFit:
    """Which of ``candidates`` to run on ``machine``, or why none can. Pure: no clock, disk or environment.

    The choice has the highest ``value``, of quality and of the time that an answer takes, of all that are for the task,
    are within the limits that were set (language, licence, openness, download), can be loaded by the engine, fit in
    memory with room left for other programs, and reach the task's floors. Of equal quality it prefers, in this order:
    what is on this machine; more bits, where memory and speed are to spare; what is faster; what is smaller. The order
    of ``candidates`` doesn't matter. The picks are the choice (``best``), the one with the highest quality if that is
    another (``quality``), the best of those that write BALANCED_GAIN times as fast or are BALANCED_SIZE of its size
    (``balanced``), and the fastest of these that is STILL_GOOD, or what is better and AS_FAST (``fastest``), where
    there are such. A model whose quality is estimated from its relatives is only ever ``best``. ``alternatives`` is the
    rest of the frontier: each is faster than all that are better. ``changes`` is what would give something better.

    An ``explicit`` wish is honoured if it fits, a missed floor is a warning. ``allocations``, what the engine itself
    said of a file and settings, overrides the formulas. ``past`` runs, the oldest first, correct the predicted speed.
    The ``last`` pick stays while it comes near the floors and nothing better reaches them; where it doesn't stay, the
    choice's last reason says why.
    Raises UsageError for an unknown task.
    """
    task = knowledge.require_task(want.task)
    if task.sees or want.sees:
        task, want = replace(task, sees=True), replace(want, sees=True)
    judge = Judge(machine, want, task, knowledge, allocations or {}, corrections(past), last)
    fits: list[Fit] = []
    slow: list[tuple[Fit, Miss]] = []
    misses: list[Miss] = []
    for candidate in sorted(candidates, key=_order):
        fit = judge.fit(candidate)
        if isinstance(fit, Miss):
            misses.append(fit)
        elif (late := judge.too_slow(fit)) is not None:
            slow.append((fit, late))
        else:
            fits.append(fit)
    if want.explicit and slow and not fits:
        chosen, late = max(slow, key=lambda pair: judge.task_tok_s(pair[0]))
        slow.remove((chosen, late))
        fits = [replace(chosen, warnings=(*chosen.warnings, str(late.rejected)))]
    misses += (late for _, late in slow)
    if not fits:
        return _no_fit(misses, want)
    planned = _with_change_of_pick(_plan(fits, misses, judge), last)
    return replace(planned, changes=changes(judge, planned.choice, misses, [fit for fit, _ in slow]))


def _plan(fits: Iterable[Fit], misses: Sequence[Miss], judge: Judge) -> Plan:
    ranked = sorted(fits, key=lambda fit: _rank(fit, judge))
    best = _best(ranked, judge)
    frontier: list[Fit] = []
    beaten: list[Rejected] = []
    for fit in ranked:
        if fit is best or not frontier or judge.task_tok_s(fit) > judge.task_tok_s(frontier[-1]):
            frontier.append(fit)
        else:
            beaten.append(_beaten(fit, frontier[-1], judge))
    frontier, better = frontier[frontier.index(best) :], frontier[: frontier.index(best)]
    why = _why_best(best, better, judge) + _more_bits(frontier)
    picks = {name: _explained(fit, best, why, judge) for name, fit in _picks(frontier, better, judge).items()}

    slow = _slow(misses)

    def nearness(miss: Miss) -> tuple[bool, bool, float]:
        """Sort key: better than the choice first, then by gap; last what more memory would not make fast enough."""
        grade = judge.grade(miss.candidate.model, miss.candidate.artifact, judge.thinks(miss.candidate))
        return _too_slow_anyway(miss, slow), grade is None or grade.index <= quality(best), miss.gap

    near = [miss.rejected for miss in sorted(misses, key=nearness) if miss.gap < FAR]
    far = [miss.rejected for miss in misses if miss.gap >= FAR]
    return Plan(picks[BEST], (*better, *frontier[1:]), (*near, *beaten, *far), picks)


def _with_change_of_pick(planned: Plan, last: LastPick | None) -> Plan:
    """With the reason for another choice than ``last``, if it is one."""
    choice = planned.choice
    if last is None or last.is_of(choice.candidate):
        return planned
    dropped = next((row for row in planned.rejected if (row.model, row.quant) == (last.model, last.quant)), None)
    name = last.model if dropped is None else dropped.name or last.model
    before = f"{name} {last.quant} was picked on {last.date}"
    if dropped is None:  # among the alternatives, or no candidate any more
        why = "this one is better" if any(last.is_of(fit.candidate) for fit in planned.alternatives) else "it is gone"
    else:
        why = f"now it {dropped.reason}"
    explained = replace(choice, reasons=(*choice.reasons, f"{before}; {why}"))
    return replace(planned, choice=explained, picks={**planned.picks, BEST: explained})


def _best(ranked: Sequence[Fit], judge: Judge) -> Fit:
    """The fit with the highest value; of the files of its model that are as good, the first of ``ranked``."""
    top = max(ranked, key=lambda fit: value(fit, judge))
    return next(
        fit for fit in ranked if fit.candidate.model.id == top.candidate.model.id and quality(fit) == quality(top)
    )


def _slow(misses: Iterable[Miss]) -> Mapping[str, int]:
    """By model, the bytes of the smallest file that fits and misses a floor."""
    smallest: dict[str, int] = {}
    for miss in misses:
        if miss.rejected.code is RejectionCode.SPEED:
            model, size = miss.candidate.model.id, miss.candidate.artifact.bytes
            smallest[model] = min(size, smallest.get(model, size))
    return smallest


def _too_slow_anyway(miss: Miss, slow: Mapping[str, int]) -> bool:
    """Whether more memory would not help: a smaller file of the same model fits and is too slow already."""
    least = slow.get(miss.candidate.model.id, miss.candidate.artifact.bytes)
    return miss.rejected.code in (RejectionCode.ROOM, RejectionCode.MEMORY) and miss.candidate.artifact.bytes > least


def _picks(frontier: Sequence[Fit], better: Sequence[Fit], judge: Judge) -> Mapping[str, Fit]:
    """``frontier`` begins with the choice; ``better`` are slower and of higher quality."""
    best = frontier[0]
    picks = {BEST: best}
    if better and quality(better[0]) >= quality(best) + NO_DIFFERENCE:
        picks[QUALITY] = better[0]
    good = [
        fit
        for fit in frontier[1:]
        if quality(fit) >= quality(best) - STILL_GOOD and _tested(fit) and _clearly_lighter(fit, best, judge)
    ]
    if good:
        most = judge.task_tok_s(good[-1])
        fastest = next(at for at, fit in enumerate(good) if judge.task_tok_s(fit) >= AS_FAST * most)
        picks |= {BALANCED: good[0]} if fastest else {}
        picks[FASTEST] = good[fastest]
    return picks


def _tested(fit: Fit) -> bool:
    return fit.grade is None or fit.grade.basis is GradeBasis.PUBLISHED


def _clearly_lighter(fit: Fit, best: Fit, judge: Judge) -> bool:
    """Whether it is BALANCED_GAIN times as fast as the best, or at most BALANCED_SIZE of its size."""
    faster = judge.task_tok_s(fit) >= BALANCED_GAIN * judge.task_tok_s(best)
    return faster or fit.candidate.artifact.bytes <= BALANCED_SIZE * best.candidate.artifact.bytes


def _why_best(best: Fit, better: Sequence[Fit], judge: Judge) -> str:
    """The reason for the best pick: its quality, its speed and the floor that the speed is held against. ``better``
    have a higher quality and take too long for it."""
    speed = _speed_in_words(best, judge)
    if best.warnings:
        return f"what was asked for, {speed}"
    group = "its files" if judge.want.explicit else "all"
    index = "" if best.quality is None else f", {best.quality:.0f},"
    if better:
        why = (
            f"the best of quality{index} and time, {units.seconds(judge.answer_s(best))} for {_answer(judge)}: {speed}"
        )
    else:
        why = f"the highest quality{index} of {group} that fit and are fast enough: {speed}"
    if not judge.task.writes:
        return f"{why} ({judge.task.because})"
    floor = f"floor {units.tok_s(judge.floor_tok_s)}"
    if judge.want.min_tok_s is not None:
        return f"{why} (the speed you ask for, {floor})"
    if best.speed.decode_tok_s < judge.floor_tok_s:
        return f"{why}, which is the floor of {units.tok_s(judge.floor_tok_s)} within the range of the prediction"
    return f"{why} ({judge.task.because}, {floor})"


def _more_bits(frontier: Sequence[Fit]) -> str:
    """Why the best has more bits than a faster file of its model, though no measured gain; empty if there is none."""
    best = frontier[0]
    same = (fit for fit in frontier[1:] if fit.candidate.model.id == best.candidate.model.id)
    faster = next((fit for fit in same if quality(fit) == quality(best)), None)
    if faster is None:
        return ""
    return f"; more bits than {faster.candidate.artifact.quant} has, as memory and speed are to spare"


def _speed_in_words(fit: Fit, judge: Judge) -> str:
    return f"{'' if judge.task.writes else 'reads '}{units.tok_s(judge.task_tok_s(fit))} tok/s"


def _explained(fit: Fit, best: Fit, why: str, judge: Judge) -> Fit:
    if fit is best:
        return replace(fit, reasons=(why, *fit.reasons))
    ratio, better = judge.task_tok_s(fit) / judge.task_tok_s(best), best.candidate
    if quality(fit) > quality(best):
        return replace(fit, reasons=(_too_long(fit, best, judge), *fit.reasons))
    same = better.model.id == fit.candidate.model.id
    name = f"its {better.artifact.quant}" if same else better.model.name
    does = "writes" if judge.task.writes else "reads"
    faster = f"{ratio:.1f} times as fast as" if ratio >= NOTICED_GAIN else "about as fast as"
    reason = f"{does} {faster} {name}: {units.tok_s(judge.task_tok_s(fit))} tok/s"
    if same and fit.quality == best.quality:
        reason += ", with no loss that anyone has measured"
    elif fit.quality is not None and best.quality is not None and f"{fit.quality:.0f}" != f"{best.quality:.0f}":
        reason += f", for a quality of {fit.quality:.0f} instead of {best.quality:.0f}"
    mine, other = fit.candidate.artifact.bytes, best.candidate.artifact.bytes
    if mine <= BALANCED_SIZE * other:
        reason += f", in {units.size(mine)} instead of {units.size(other)}"
    return replace(fit, reasons=(reason, *fit.reasons))


def _too_long(fit: Fit, best: Fit, judge: Judge) -> str:
    """Why a fit of higher quality isn't the best."""
    took, takes = units.seconds(judge.answer_s(best)), units.seconds(judge.answer_s(fit))
    of = "" if best.quality is None else f" instead of {best.quality:.0f}"
    return f"a quality of {fit.quality:.0f}{of}, but {_answer(judge)} takes {takes} instead of {took}"


def _answer(judge: Judge) -> str:
    return "the usual answer" if judge.task.writes else "the usual passage"


def _beaten(fit: Fit, better: Fit, judge: Judge) -> Rejected:
    model, than, quant = fit.candidate.model, better.candidate, better.candidate.artifact.quant
    does = "writes" if judge.task.writes else "reads"
    mine, other = units.tok_s(judge.task_tok_s(fit)), units.tok_s(judge.task_tok_s(better))
    faster = "is as fast" if mine == other else f"{does} {other} tok/s to its {mine}"
    if than.model.id != model.id:
        good = "is at least as good" if better.quality is not None else "is as untested"
        reason = f"fits, but {than.model.name} {quant} {good} and {faster}"
    elif quality(fit) == quality(better):
        slower = "is as fast" if mine == other else f"{does} {mine} tok/s instead of {other}"
        reason = f"fits, but shows no gain over its {quant} that anyone has measured, and {slower}"
    else:
        reason = f"fits, but its {quant} is better and {faster}"
    return Rejected(model.id, fit.candidate.artifact.quant, RejectionCode.BEATEN, reason, name=model.name)


def _no_fit(misses: Sequence[Miss], want: Want) -> NoFit:
    """Why nothing can be chosen. ``nearest`` is what fits and is too slow, if anything does, else the smallest gap."""
    if want.explicit:
        nearness = sorted(misses, key=lambda miss: miss.gap)
    else:
        nearness = sorted(misses, key=lambda miss: (miss.rejected.code is not RejectionCode.SPEED, miss.gap))
    rejected = tuple(miss.rejected for miss in nearness)
    if not rejected:
        return NoFit("there is no model to choose from", (), None)
    nearest = rejected[0]
    if want.explicit:
        return NoFit(str(nearest), rejected, nearest)
    if nearness[0].gap >= FAR and (limits := _limits(misses, want)):
        return NoFit(f"for {want.task} no model {' and '.join(limits)}", rejected, nearest)
    return NoFit(f"no model fits; the nearest, {nearest}", rejected, nearest)


def _limits(misses: Iterable[Miss], want: Want) -> list[str]:
    """The limits that were set and that some candidate broke, each as the continuation of "no model"."""
    words = {
        RejectionCode.LANGUAGE: f"is listed for the language {want.language}",
        RejectionCode.LICENCE: f"is under {want.licence}",
        RejectionCode.OPENNESS: f"is as open as --open {want.openness} asks",
        RejectionCode.INSTALLED: "is on this machine",
    }
    broken = {miss.rejected.code for miss in misses}
    return [sentence for code, sentence in words.items() if code in broken]


def _order(candidate: Candidate) -> tuple[str, str, str]:
    return candidate.model.id, candidate.artifact.quant, candidate.artifact.source.file


def _rank(fit: Fit, judge: Judge) -> tuple[float, bool, float, float, int, str, str]:
    model, artifact = fit.candidate.model.id, fit.candidate.artifact
    candidate, quants = fit.candidate, judge.knowledge.quants
    lost = loss(candidate.model, candidate.artifact, quants) if _to_spare(fit, judge) else inf
    return (
        -quality(fit),
        fit.candidate.path is None,
        lost,
        -judge.task_tok_s(fit),
        artifact.bytes,
        model,
        artifact.quant,
    )


def _to_spare(fit: Fit, judge: Judge) -> bool:
    """Whether it leaves memory (SPARE_MEMORY) and speed (SPARE_SPEED) to spare, with no layers split off a GPU."""
    settings, rows = fit.configuration, fit.memory.by_device
    split = settings.cpu_expert_layers or 0 < settings.gpu_layers <= fit.candidate.model.shape.n_layer
    room = all(row.total_bytes <= SPARE_MEMORY * row.available_bytes for row in rows)
    return room and not split and judge.task_tok_s(fit) >= SPARE_SPEED * judge.floor_tok_s
