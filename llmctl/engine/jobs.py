"""Which process a plan is run by, and what that process has to know."""

from __future__ import annotations

from typing import Any

from llmctl.engine.llama_cpp import start as llama_cpp
from llmctl.engine.worker_process import LLAMA_CPP
from llmctl.types.plan import Fit


def module_for(fit: Fit) -> str:
    """The module of the worker that loads ``fit``."""
    if fit.server is None:
        return LLAMA_CPP
    from llmctl.engine.llama_server.start import SUPERVISOR

    return SUPERVISOR


def job(fit: Fit) -> dict[str, Any]:
    """What that worker has to know, but the token. Raises IntegrityError for a broken file."""
    if fit.server is None:
        return llama_cpp.job(fit)
    from llmctl.engine.llama_server.start import job

    return job(fit)
