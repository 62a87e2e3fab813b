"""The engine that installs with llmctl: llama-cpp-python, in a worker process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmctl.engine.worker_process import Engine, Worker, new_token
from llmctl.struct import asdict
from llmctl.types.endpoint import Address
from llmctl.types.listener import TellShare
from llmctl.types.plan import Draft, Fit

LOAD_FLOOR_S = 120.0
SLOWEST_DISK_BYTES_PER_S = 20e6  # an SD card or a busy network drive; slower than this is stuck


def start(fit: Fit, *, worker: Worker | None = None, tell: TellShare | None = None) -> Engine:
    """Loads the file of ``fit`` (it is on this machine) with its settings and returns when it answers.

    ``worker``, if given, was spawned earlier so that the engine's import overlapped with planning; it is used up.
    ``tell`` hears how much is loaded.
    Raises EngineError when the file can't be loaded and EngineDiedError when the process ended while loading.
    """
    return started(worker or Worker(), job(fit), tell)


def started(worker: Worker, job: Mapping[str, Any], tell: TellShare | None = None) -> Engine:
    """The engine of ``worker`` with ``job`` done. Raises as ``start``."""
    begun, token = time.perf_counter(), new_token()
    ready = load(worker, {**job, "token": token}, tell)
    return Engine(
        worker,
        Address(url=f"http://127.0.0.1:{ready['port']}/v1", model=job["model"], token=token),
        load_s=time.perf_counter() - begun,
        has_chat_template=ready["chat_template"],
        build=ready["build"],
        sequences=job["sequences"],
    )


def job(fit: Fit) -> dict[str, Any]:
    """What a worker has to know, but the token."""
    assert fit.candidate.path is not None, "a plan is started after its file was fetched"
    projector = fit.candidate.projector
    return {
        "file": str(fit.candidate.path),
        "model": fit.candidate.model.id,
        "threads": fit.threads,
        "prefill_threads": fit.prefill_threads,
        **({} if projector is None else {"projector": str(projector)}),
        **({} if fit.draft is None else {"draft": _draft_job(fit, fit.draft)}),
        **asdict(fit.configuration),
    }


def _draft_job(fit: Fit, draft: Draft) -> dict[str, Any]:
    return {
        "file": str(draft.candidate.path),
        "model": draft.candidate.model.id,
        "threads": fit.threads,
        "prefill_threads": fit.prefill_threads,
        **asdict(draft.configuration),
    }


def load(worker: Worker, job: Mapping[str, Any], tell: TellShare | None = None) -> Mapping[str, Any]:
    """What the worker says when the model is loaded; it is ended where it can't be. ``tell`` and what is raised as
    those of ``start``."""
    try:
        size_bytes = Path(job["file"]).stat().st_size
        return worker.load(job, timeout_s=LOAD_FLOOR_S + size_bytes / SLOWEST_DISK_BYTES_PER_S, tell=tell)
    except BaseException:
        worker.close()
        raise
