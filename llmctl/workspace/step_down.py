"""Plans that take less memory than one for which it did not suffice, of what is on this machine."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from llmctl import units
from llmctl.errors import LlmctlError
from llmctl.planner.step_down import Step, lower_context, steps
from llmctl.router.lending import LowerFit
from llmctl.types.plan import Fit, Plan, Want
from llmctl.workspace.situation import Situation

LEAST_ASKED = 256  # tokens of context: what --context takes at least


class Below:
    """``name`` is what was asked for, if anything was, and ``want`` how; the plans are those of ``situation``."""

    def __init__(self, situation: Situation, name: str | None, want: Want) -> None:
        self._situation = situation
        self._name = name
        self._want = want

    def below(self, fit: Fit) -> Iterator[LowerFit]:
        """As ``router.lending.StepsDown`` has it. What doesn't take less is left out."""
        before = fit
        for step in steps(fit, self._want):
            lower = self._planned(before, step)
            if lower is not None and lower.memory.must_fit_bytes < before.memory.must_fit_bytes:
                quant = lower.candidate.artifact.quant
                yield LowerFit(lower, f"{step.change} ({quant})" if step.of_smaller_file else step.change)
                before = lower

    def hint(self, fit: Fit) -> str | None:
        """The context that would take less, where a larger one was asked for."""
        if self._want.context is None:
            return None
        half = lower_context(fit.context, self._want) or max(LEAST_ASKED, fit.context // 2)
        lower = self._planned(fit, Step(replace(self._want, explicit=True, context=half), ""))
        if half >= fit.context or lower is None:
            return None
        need, now = units.size(lower.memory.must_fit_bytes), units.size(fit.memory.must_fit_bytes)
        return f"llmctl run --context {half} …   takes {need} instead of {now}"

    def _planned(self, fit: Fit, step: Step) -> Fit | None:
        model, size = fit.candidate.model.id, fit.candidate.artifact.bytes
        candidates = [fit.candidate]
        try:
            if step.of_smaller_file:
                candidates = [
                    candidate
                    for candidate in self._situation.candidates(self._name, ask_hub=False)
                    if candidate.path and candidate.model.id == model and candidate.artifact.bytes < size
                ]
            planned = self._situation.plan(candidates, step.want) if candidates else None
        except LlmctlError:  # a file that is gone by now: then there is no such step
            return None
        return replace(planned.choice, server=fit.server) if isinstance(planned, Plan) else None
