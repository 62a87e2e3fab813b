"""The choice among all candidates: what fits and is fast enough, the best of it, and why the others are not it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from llmctl import units
from llmctl.catalogue.knowledge import Knowledge
from llmctl.errors import UsageError
from llmctl.planner.judge import Allocations, Judge, Miss
from llmctl.planner.learning import lessons
from llmctl.types.machine import Machine
from llmctl.types.model import Candidate
from llmctl.types.past import PastRun
from llmctl.types.plan import Fit, NoFit, Plan, Rejected, Want

BEST, BALANCED, FASTEST = "best", "balanced", "fastest"
BALANCED_GAIN = 1.3  # the balanced pick writes at least this much faster than the best one
STILL_GOOD = 0.6  # the fastest pick has at least this share of its quality
AS_FAST = 0.9  # and nothing better writes at this share of its speed


def plan(
    machine: Machine,
    candidates: Sequence[Candidate],
    want: Want,
    knowledge: Knowledge,
    allocations: Allocations | None = None,
    past: Sequence[PastRun] = (),
) -> Plan | NoFit:
    """What to run of ``candidates`` on ``machine``. Pure: no clock, disk or environment; their order doesn't matter.

    The choice has the highest quality of all that fit in memory (with the stated margin), are within the download
    limit and reach the task's floors (of the files of a model that nobody has tested, the one that quantization took
    the least from); equal quality prefers what is on this machine, then what is faster. The picks
    are the choice (``best``), the best of those that write BALANCED_GAIN times as fast (``balanced``), and the fastest
    with STILL_GOOD of its quality, or what is better and AS_FAST (``fastest``), where there are such. ``alternatives``
    is the rest of the frontier: each is faster than all that are better.

    An ``explicit`` wish is honoured if it fits, a missed floor is a warning. Where ``allocations`` has what the engine
    itself said of a candidate's file and settings, that stands above the formulas. ``past``, the oldest first, corrects
    the predicted speed.
    Raises UsageError for an unknown task.
    """
    task = knowledge.tasks.get(want.task)
    if task is None:
        raise UsageError(f"there is no task named {want.task!r}, only {', '.join(knowledge.tasks)}")
    judge = Judge(machine, want, task, knowledge, allocations or {}, lessons(past))
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
        chosen, late = max(slow, key=lambda pair: pair[0].speed.decode_tok_s)
        slow.remove((chosen, late))
        fits = [replace(chosen, warnings=(*chosen.warnings, str(late.rejected)))]
    misses += (late for _, late in slow)
    if not fits:
        return _no_fit(misses, want.explicit)
    return _plan(fits, misses, judge)


def _plan(fits: Iterable[Fit], misses: Sequence[Miss], judge: Judge) -> Plan:
    ranked = sorted(fits, key=_rank)
    frontier: list[Fit] = []
    beaten: list[Rejected] = []
    for fit in ranked:
        if not frontier or fit.speed.decode_tok_s > frontier[-1].speed.decode_tok_s:
            frontier.append(fit)
        else:
            beaten.append(_beaten(fit, frontier[-1]))
    why = _because(frontier[0], judge)
    picks = {name: _explained(fit, frontier[0], why) for name, fit in _picks(frontier).items()}
    rejected = [miss.rejected for miss in sorted(misses, key=lambda miss: miss.gap)]
    return Plan(picks[BEST], tuple(frontier[1:]), (*rejected, *beaten), picks)


def _picks(frontier: Sequence[Fit]) -> Mapping[str, Fit]:
    best = frontier[0]
    picks = {BEST: best}
    good = [fit for fit in frontier[1:] if _quality(fit) >= STILL_GOOD * _quality(best)]
    if good:
        most = good[-1].speed.decode_tok_s
        fastest = next(at for at, fit in enumerate(good) if fit.speed.decode_tok_s >= AS_FAST * most)
        enough = BALANCED_GAIN * best.speed.decode_tok_s
        between = [fit for fit in good[:fastest] if fit.speed.decode_tok_s >= enough]
        picks |= {BALANCED: between[0]} if between else {}
        picks[FASTEST] = good[fastest]
    return picks


def _because(best: Fit, judge: Judge) -> str:
    """Why the best is the best."""
    pace = f"{units.tok_s(best.speed.decode_tok_s)} tok/s"
    if best.warnings:
        return f"what was asked for, {pace}"
    floor = f"floor {units.tok_s(judge.floor_tok_s)}"
    fast = judge.task.because if judge.want.min_tok_s is None else "the speed you ask for"
    group = "its files" if judge.want.explicit else "all"
    return f"the highest quality of {group} that fit and are fast enough: {pace} ({fast}, {floor})"


def _explained(fit: Fit, best: Fit, why: str) -> Fit:
    if fit is best:
        return replace(fit, reasons=(why, *fit.reasons))
    ratio = fit.speed.decode_tok_s / best.speed.decode_tok_s
    pace = f"{units.tok_s(fit.speed.decode_tok_s)} tok/s"
    reason = f"writes {ratio:.1f} times as fast as {best.candidate.model.name}: {pace}"
    if fit.quality is not None and best.quality is not None:
        reason += f", for a quality of {fit.quality:.0f} instead of {best.quality:.0f}"
    return replace(fit, reasons=(reason, *fit.reasons))


def _beaten(fit: Fit, better: Fit) -> Rejected:
    model, than = fit.candidate.model, better.candidate
    reason = (
        f"fits, but {than.model.name} {than.artifact.quant} is at least as good and writes "
        f"{units.tok_s(better.speed.decode_tok_s)} tok/s to its {units.tok_s(fit.speed.decode_tok_s)}"
    )
    return Rejected(model.id, fit.candidate.artifact.quant, reason, name=model.name)


def _no_fit(misses: Sequence[Miss], explicit: bool) -> NoFit:
    by_gap = sorted(misses, key=lambda miss: miss.gap)
    rejected = tuple(miss.rejected for miss in by_gap)
    if not rejected:
        return NoFit("there is no model to choose from", (), None)
    nearest = rejected[0]
    return NoFit(str(nearest) if explicit else f"no model fits; the nearest, {nearest}", rejected, nearest)


def _order(candidate: Candidate) -> tuple[str, str, str]:
    return candidate.model.id, candidate.artifact.quant, candidate.artifact.source.file


def _rank(fit: Fit) -> tuple[float, bool, float, str, str]:
    model, quant = fit.candidate.model.id, fit.candidate.artifact.quant
    return -_quality(fit), fit.candidate.path is None, -fit.speed.decode_tok_s, model, quant


def _quality(fit: Fit) -> float:
    """Of models that nobody has tested, the better is not known: they stand behind all others, and among themselves by
    what quantization left of them."""
    return -1.0 - fit.quantization_loss if fit.quality is None else fit.quality
