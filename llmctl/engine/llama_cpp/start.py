"""The engine that installs with llmctl: llama-cpp-python, in a worker process."""

from __future__ import annotations

import time

from llmctl.engine.worker_process import Engine, Worker, new_token
from llmctl.struct import asdict
from llmctl.types.endpoint import Address
from llmctl.types.plan import Fit

LOAD_FLOOR_S = 120.0
SLOWEST_DISK_BYTES_PER_S = 20e6  # an SD card or a busy network drive; slower than this is stuck


def start(fit: Fit, *, worker: Worker | None = None) -> Engine:
    """Loads the file of ``fit`` (it is on this machine) with its settings and returns when it answers.

    ``worker``, if given, was spawned earlier so that the engine's import overlapped with planning; it is used up.
    Raises EngineError when the file can't be loaded and EngineDiedError when the process ended while loading.
    """
    begun = time.perf_counter()
    file = fit.candidate.path
    assert file is not None, "a plan is started after its file was fetched"
    used = worker or Worker()
    token = new_token()
    model = fit.candidate.model.id
    try:
        ready = used.load(
            {
                "file": str(file),
                "model": model,
                "threads": fit.threads,
                "prefill_threads": fit.prefill_threads,
                "token": token,
                **asdict(fit.configuration),
            },
            timeout_s=LOAD_FLOOR_S + file.stat().st_size / SLOWEST_DISK_BYTES_PER_S,
        )
    except BaseException:
        used.close()
        raise
    return Engine(
        used,
        Address(url=f"http://127.0.0.1:{ready['port']}/v1", model=model, token=token),
        load_s=time.perf_counter() - begun,
        has_chat_template=ready["chat_template"],
        build=ready["build"],
    )
