"""Which models ``llmctl web`` serves where none is named."""

from __future__ import annotations

from msgspec.structs import replace

from llmctl.errors import LlmctlError
from llmctl.settings import Settings
from llmctl.types.listener import Listener
from llmctl.types.plan import NoFit
from llmctl.workspace import serve, situation

MOST = 8  # each is looked at by the engine before it is offered


def models_here(listener: Listener, settings: Settings) -> tuple[str, ...]:
    """The models on this machine that are for the task of the settings and fit, the best first, each in its best
    quantization; those of the catalogue alone. Empty where there is none."""
    shelf = situation.shelf(listener, loaded=settings)
    if settings.model is not None or not any(candidate.path for candidate in shelf.candidates(None)):
        return ()
    looked_at = situation.look(listener, before=shelf)
    want = replace(situation.want(settings), installed=True)
    answer = looked_at.plan(looked_at.candidates(None), want)
    if isinstance(answer, NoFit):
        return ()
    best = {
        fit.candidate.model.id: fit.candidate.artifact.quant for fit in reversed((answer.choice, *answer.alternatives))
    }
    return tuple(f"{model}:{quant}" for model, quant in reversed(best.items()))[:MOST]


def free_port(usual: int) -> int:
    """The ``usual`` port of this machine's own address, so that the browser finds again what it keeps of the page; 0,
    for any that is free, where it is taken."""
    try:
        serve.bound(serve.LOCALHOST, usual).close()
    except LlmctlError:
        return 0
    return usual
