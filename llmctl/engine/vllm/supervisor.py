"""Runs vLLM and all that it starts, and ends them when whoever has started this process closes its stdin or is gone.

    python -m llmctl.engine.vllm.supervisor FOLDER     the command line as a JSON list on the first line of stdin

vLLM's helpers hold the memory of the GPUs, so none of them may outlive a gateway that was killed. FOLDER, which has its
socket, is removed at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial

from llmctl import child
from llmctl.confinement import NetworkAccess, confine

END_S = 10.0  # that it has to end by itself


def main() -> int:
    line = sys.stdin.readline()
    if not line:
        return 0
    confine(network=NetworkAccess.ALL)  # of which vLLM inherits that no file is written of its memory
    process = subprocess.Popen(
        json.loads(line),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
        start_new_session=True,
        preexec_fn=partial(child.end_with_parent, os.getpid()),
    )
    threading.Thread(target=_end_when_left, args=(process,), daemon=True).start()
    code = process.wait()
    _signal_all(process, signal.SIGKILL)
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    if code < 0:
        os.kill(os.getpid(), -code)
    return code


def _end_when_left(process: subprocess.Popen[bytes]) -> None:
    sys.stdin.read()
    _signal_all(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
    _signal_all(process, signal.SIGKILL)


def _signal_all(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """What it has started is in its session, and may live on without it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


if __name__ == "__main__":
    sys.exit(main())
