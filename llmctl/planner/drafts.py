"""What drafted tokens bring, as predicted: several are computed at once, as a prompt is, and those stay that are right.

A prompt's tokens are computed without logits but for the last, drafted ones with theirs, so a batch takes somewhat
longer than is predicted here; the engine counts with what it has measured itself (``engine.llama_cpp.speculation``).
"""

from __future__ import annotations

from collections.abc import Sequence

from llmctl.types.past import PastRun
from llmctl.types.plan import Fit
from llmctl.types.speed_model import DraftForecast

ROWS = 16  # tokens at once: on CPUs kernels are far from their best with fewer


def draft_forecast(fit: Fit, depth: int, past: Sequence[PastRun]) -> DraftForecast | None:
    """For ``fit`` with ``depth`` tokens before; None for a model whose memory can't go back to before a wrong draft:
    a recurrent state."""
    if fit.candidate.model.shape.state_bytes:
        return None
    runs = [run for run in past if run.drafted_tokens]
    speed = fit.speed_model
    return DraftForecast(
        rows=ROWS,
        steps=max(1.0, speed.prefill_s(ROWS, depth) / speed.decode_s(depth)),
        drafted_tokens=sum(run.drafted_tokens for run in runs),
        accepted_tokens=sum(run.accepted_tokens for run in runs),
    )
