"""The first answer, and how fast it was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmctl import units
from llmctl.cli.story import Story
from llmctl.cli.terminal import answer_output, lay_out
from llmctl.shell import command
from llmctl.types.plan import Basis, Fit
from llmctl.types.request import Request, Sampling
from llmctl.workspace import choose
from llmctl.workspace.local_run import LocalRun
from llmctl.workspace.setup import work
from llmctl.workspace.setup.work import SpeedVerdict

if TYPE_CHECKING:
    from llmctl.workspace.situation import Situation


def first_answer(situation: Situation, fit: Fit, prompt: str, most_tokens: int) -> float | None:
    """Answers on stdout, and returns tokens per second; None where there were too few to tell. Raises what an answer
    raises."""
    from llmctl.workspace.ask import answer
    from llmctl.workspace.engine import with_server

    out = answer_output("run")
    lay_out(out, markdown=situation.settings.markdown)
    out.note(f"   {command('llmctl', 'run', '-m', choose.name_of(fit.candidate), names=[prompt])}\n")
    request = Request.of(prompt, Sampling(max_tokens=most_tokens))
    ready = with_server(out, situation, fit)
    story = Story(out, limited=True)
    try:
        made = answer(story, situation.settings, request, lambda: LocalRun(ready), so_far=story.so_far, local=True)
    except BaseException:
        story.end_line()
        raise
    story.ended(made)
    story.sum_up(made)
    return made.timings.decode_tok_s


def compared(fit: Fit, measured_tok_s: float) -> str:
    """The first answer's speed beside the promise."""
    low, high = units.tok_s(fit.speed.decode_low_tok_s), units.tok_s(fit.speed.decode_high_tok_s)
    verb = "Guessed" if fit.speed.basis is Basis.MODELLED else "Promised"
    verdict = work.verdict(fit, measured_tok_s)
    said = f"  {verb} were {low} to {high} tok/s, measured {units.tok_s(measured_tok_s)}: {verdict}."
    return f"{said} Something else may be computing: llmctl doctor" if verdict is SpeedVerdict.SLOWER else said
