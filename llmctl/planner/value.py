"""What a fit is worth for a task: its quality, less what the wait for an answer costs."""

from __future__ import annotations

from math import log2

from llmctl.planner.judge import Judge
from llmctl.types.plan import Fit

# Our judgement, as the limits of tasks are: no source states it. By it a mixture of experts that answers in 13 s is
# preferred to a dense model with nine points more of quality that takes 68 s (a 12 GB card with 32 GB of memory).
HALVED_WAIT = 7.0  # index points that half the wait is worth, until the answer comes in the task's ``good_answer_s``
NO_DIFFERENCE = 2.0  # index points: the last pick stays when another is worth so little more
INSTALLED = 1.0  # index points that a model is worth which is on this machine: near ties are decided by that
UNTESTED = -1000.0


def quality(fit: Fit) -> float:
    """The quality index to rank by. A model without one ranks below all others, by its loss to quantization."""
    return UNTESTED - fit.quantization_loss if fit.quality is None else fit.quality


def value(fit: Fit, judge: Judge) -> float:
    """In index points. More bandwidth or compute never lower it, and more memory by no more than a longer context or a
    finer cache costs in time."""
    halvings = log2(max(1.0, judge.answer_s(fit) / judge.good_answer_s))
    return quality(fit) - HALVED_WAIT * halvings + _familiar(fit, judge)


def _familiar(fit: Fit, judge: Judge) -> float:
    is_last = judge.last is not None and judge.last.is_of(fit.candidate)
    return NO_DIFFERENCE * is_last + INSTALLED * (fit.candidate.path is not None)
