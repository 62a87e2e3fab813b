"""A module of ours asked in a process of its own, with a deadline.

Drivers and engines hang, crash and print. The caller gets a reply, or the reason why there is none: the signal of a
crash, the time-out of a hang; what a library prints doesn't mix with the answer. ``environment`` is what a child needs
of ours, without the secrets in it; a module of ours ends with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

# What a program, Python, and the libraries of engines, drivers and the system read. Everything else stays here.
NEEDED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV", "PROCESSOR_ARCHITECTURE", "PROCESSOR_IDENTIFIER"),
        *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "NUMBER_OF_PROCESSORS"),
        *("PROGRAMDATA", "PROGRAMFILES", "APPDATA", "LOCALAPPDATA", "USERPROFILE"),
    }
)
NEEDED_PREFIXES = (
    *("LC_", "XDG_", "PYTHON", "DYLD_", "MALLOC_", "GLIBC_", "LIBGL_", "DRI_"),
    *("GGML_", "LLAMA_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_"),
    *("CUDA_", "NVIDIA_", "HIP_", "ROCR_", "ROCM_", "HSA_", "AMD_", "GPU_", "VK_", "MESA_", "RADV_", "ANV_"),
    *("ONEAPI_", "ONEDNN_", "SYCL_", "ZE_", "ZES_", "UR_", "MUSA_", "ASCEND_", "MTL_", "METAL_"),
)
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|COOKIE", re.IGNORECASE)
PR_SET_PDEATHSIG = 1  # prctl(2)
# How often a thread of libgomp looks for work before it sleeps. By default it looks for some 0.1 s, in which a thread
# that waits keeps the one that it waits for from its core, if another program is on the other: SmolLM2 135M Q4_1 on two
# cores of an AMD EPYC wrote 0.7 tokens/s with one of them busy, 24 with a thousand looks; on idle ones 103 and 105,
# gemma 3 270M Q4_K_M 65 and 65 (medians of five and three runs, alternating). A user's own setting stands.
SPINNING = {"GOMP_SPINCOUNT": "1000"}
WAITING = frozenset({"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"})
REAP_S = 0.5  # a process stuck inside a driver can't be reaped even when killed; it is left to the kernel
WINDOWS_ILLEGAL_INSTRUCTION = 0xC000001D
WINDOWS_CRASHES = frozenset({0xC0000005, 0xC0000094, 0xC0000409})  # wrong address, division by zero, abort()
CRASHES = frozenset({signal.SIGABRT, signal.SIGFPE, signal.SIGSEGV, *([signal.SIGBUS] if os.name == "posix" else [])})


class Reply(Struct, frozen=True):
    """``data`` is what the module answered, None if it did not; ``why`` then says why, without a subject. ``crashed``:
    it ended for what it did (an assertion, a wrong address, a division by zero), not for its time or the memory."""

    data: Any | None
    why: str | None = None
    illegal_instruction: bool = False
    crashed: bool = False


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of ``environ`` that a child needs: no keys of servers, tokens or proxies' passwords; and how its threads
    wait, where the user hasn't set that."""
    needed = {
        name: value
        for name, value in environ.items()
        if (name.upper() in NEEDED or name.startswith(NEEDED_PREFIXES)) and not SECRET.search(name)
    }
    return needed if needed.keys() & WAITING else needed | SPINNING


def end_with_parent(parent: int) -> None:
    """Called by a child when it begins: the kernel ends it when process ``parent`` ends, even by SIGKILL and even if
    the child is stopped (Linux only). The thread that has started the child must live as long as the child does."""
    if sys.platform != "linux":
        return
    import ctypes

    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):  # a system library without it
        return
    if os.getppid() != parent:  # it has ended before
        os._exit(1)


def ask(environ: Mapping[str, str], module: str, question: Any = None, *, deadline_s: float) -> Reply:
    """Runs ``python -m module`` with ``question`` as JSON in its arguments. Never raises."""
    argv = [sys.executable, "-P", "-m", module, json.dumps(question), str(os.getpid())]  # -P: not the cwd
    try:
        done = run(argv, environ, deadline_s)
    except (OSError, ValueError) as error:
        return Reply(None, f"can't be asked: {error}")
    return Reply(None, f"did not answer within {deadline_s:g} s") if done is None else _reply(*done)


def run(argv: Sequence[str], environ: Mapping[str, str], deadline_s: float) -> tuple[int, bytes, bytes] | None:
    """A program with an empty standard input, run to its end: its code, output and errors. None if it was ended for
    its time, with whatever it had started. Raises OSError and ValueError if it can't be started."""
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environ),
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        _end(process)
        return None
    except BaseException:
        _end(process)
        raise
    return process.returncode, out, err


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)  # a session of its own: those that it has started, too
        else:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=REAP_S)


def _reply(code: int, out: bytes, err: bytes) -> Reply:
    if code == 0:
        try:
            return Reply(json.loads(out))
        except ValueError:
            return Reply(None, "gave an answer that can't be read")
    if code in (-signal.SIGILL, WINDOWS_ILLEGAL_INSTRUCTION):
        return Reply(None, "was stopped by an illegal instruction", illegal_instruction=True)
    lines = err.decode("utf-8", "replace").split("\n")
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")[:200]
    crashed = -code in CRASHES or code in WINDOWS_CRASHES
    if code < 0:
        return Reply(None, f"crashed (signal {-code}) {words}".strip(), crashed=crashed)
    return Reply(None, f"failed: {words}" if words else f"failed (exit code {code})", crashed=crashed)


def answer(function: Callable[[Any], Any]) -> int:
    """The child's side: calls ``function`` with the question and writes what it returns to the parent."""
    end_with_parent(int(sys.argv[2]))
    channel = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(channel, "w", encoding="utf-8") as out:
        out.write(json.dumps(function(json.loads(sys.argv[1]))))
    return 0
