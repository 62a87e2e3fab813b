"""What drafted tokens bring, as predicted: several are computed at once, as those of several answers are, and those
that are right stay. The engine counts with what it has measured itself (``engine.llama_cpp.speculation``).
"""

from __future__ import annotations

from collections.abc import Sequence

from llmctl.catalogue.speed_constants import Range
from llmctl.planner.speed import DRAFT_ROWS
from llmctl.types.past import PastRun
from llmctl.types.plan import Fit
from llmctl.types.speed_model import DraftForecast


def draft_forecast(fit: Fit, depth: int, past: Sequence[PastRun], together: Range) -> DraftForecast | None:
    """For ``fit`` with ``depth`` tokens before; None for a model whose memory can't go back to before a wrong draft:
    a recurrent state. ``together`` is the range of several tokens at once."""
    if fit.candidate.model.shape.state_bytes:
        return None
    runs = [run for run in past if run.drafted_tokens]
    speed = fit.speed_model
    steps = speed.batch_s(DRAFT_ROWS, depth) / speed.decode_s(depth)
    fewest, steps, most = (max(1.0, steps / factor) for factor in (together.high, 1.0, together.low))
    return DraftForecast(
        rows=DRAFT_ROWS,
        steps=steps,
        fewest_steps=fewest,
        most_steps=most,
        drafted_tokens=sum(run.drafted_tokens for run in runs),
        accepted_tokens=sum(run.accepted_tokens for run in runs),
    )
