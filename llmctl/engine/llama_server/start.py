"""Starting llama-server with a plan's settings, behind the lease of the worker with llama-cpp-python."""

from __future__ import annotations

from typing import Any

from llmctl.engine.llama_cpp import start as llama_cpp
from llmctl.engine.llama_server.options import options
from llmctl.engine.worker_process import Engine, Worker
from llmctl.gguf.header import read_file
from llmctl.types.plan import Fit

SUPERVISOR = "llmctl.engine.llama_server.supervisor"


def start(fit: Fit) -> Engine:
    """Loads the file of ``fit`` (it is on this machine) with its settings, in its server, and returns when it answers.

    Raises EngineError when the file can't be loaded and EngineDiedError when the process ended while loading.
    """
    return llama_cpp.started(Worker(SUPERVISOR), job(fit))


def job(fit: Fit) -> dict[str, Any]:
    """What the supervisor has to know, but the token; it changes with the program. Raises IntegrityError for a broken
    file."""
    assert fit.server is not None and fit.candidate.path is not None, "a plan is started after its file was fetched"
    has_chat_template = read_file(fit.candidate.path).chat_template is not None
    return {
        **llama_cpp.job(fit),
        "program": fit.server.path,
        "changed_ns": fit.server.changed_ns,
        "build": fit.server.build,
        "chat_template": has_chat_template,
        "sequences": fit.configuration.sequences,
        # The drivers of GPUs may start helpers with rights of their own, which nothing may do behind such a filter.
        "has_no_network": not fit.server.gpus and not fit.configuration.gpu_layers,
        "options": options(fit, has_chat_template=has_chat_template),
    }
