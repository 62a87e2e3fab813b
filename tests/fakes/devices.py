"""llama.cpp's own placement of a model on devices that compute nothing: ``device.cpp``, compiled where a compiler is.

    with no machine: placements(build(folder), file, [(memory_bytes, configuration)])

asks a child of this interpreter, which forks for each of them: devices can't be taken back and a wrong combination of
settings aborts, and what takes longest is the import of the engine.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from llmctl.struct import asdict
from llmctl.types.plan import Configuration

SOURCE = Path(__file__).with_name("device.cpp")
DEADLINE_S = 120
BREAKDOWN_BYTES = 1 << 14
OTHER_VERSION = 3  # the exit code of a fork whose engine doesn't take the devices


class UnavailableError(Exception):
    """There are no such devices here, and why."""


@dataclass(frozen=True)
class Placed:
    """Where llama.cpp puts it: bytes of weights, cache and compute by buffer type, layers (the head is none of them)
    that stay on the CPU, and how many it says are on devices, of how many."""

    buffers: Mapping[str, Sequence[int]]
    cpu_layers: Sequence[int]
    offloaded: str
    output_mib: float


def build(folder: Path) -> Path:
    """The library of devices. Raises UnavailableError without a C++ compiler or the engine's headers."""
    import llama_cpp

    compiler, libraries = shutil.which("c++") or shutil.which("g++"), Path(llama_cpp.__file__).parent / "lib"
    include = libraries.parents[1] / "include"
    if compiler is None:
        raise UnavailableError("there is no C++ compiler")
    if not (include / "ggml-backend.h").is_file():
        raise UnavailableError(f"the engine's headers are not in {include}")
    library = folder / "libdevice.so"
    linked = ["-L", str(libraries), "-lllama", "-lggml", "-lggml-base", f"-Wl,-rpath,{libraries}"]
    command = [compiler, "-O1", "-shared", "-fPIC", "-std=c++17", "-I", str(include), str(SOURCE), "-o", str(library)]
    done = subprocess.run([*command, *linked], capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    if done.returncode:
        raise UnavailableError(f"the devices can't be compiled against this engine: {done.stderr[-300:]}")
    return library


def placements(library: Path, file: Path, wanted: Sequence[tuple[Sequence[int], Configuration]]) -> list[Placed | str]:
    """For each configuration with so much free memory on each device, where it lies, or why it was refused."""
    question = {
        "library": str(library),
        "file": str(file),
        "wanted": [(list(memory_bytes), asdict(configuration)) for memory_bytes, configuration in wanted],
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.fakes.devices"],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
        cwd=SOURCE.parents[2],
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    )
    if done.returncode:
        raise UnavailableError(done.stderr[-300:])
    return [answer if isinstance(answer, str) else Placed(**answer) for answer in json.loads(done.stdout)]


def _forked(library: str, file: str, memory_bytes: Sequence[int], settings: Mapping[str, Any]) -> Any:
    """The answer of a child, or its last words."""
    with tempfile.TemporaryFile("w+") as answer, tempfile.TemporaryFile("w+") as errors:
        pid = os.fork()
        if not pid:
            os.dup2(errors.fileno(), 2)
            _answer(answer, library, file, memory_bytes, settings)
        _, status = os.waitpid(pid, 0)
        (errors if status else answer).seek(0)
        if os.waitstatus_to_exitcode(status) == OTHER_VERSION:
            raise SystemExit("the installed engine is of another version than the devices")
        return f"aborted: {errors.read()[-300:]}" if status else json.load(answer)


def _answer(
    into: IO[str], library: str, file: str, memory_bytes: Sequence[int], settings: Mapping[str, Any]
) -> NoReturn:
    """In the fork, which ends here whatever happens."""
    try:
        answer = _asked(library, file, memory_bytes, settings)
        json.dump(answer, into)
        into.flush()
        os._exit(OTHER_VERSION if answer is None else 0)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def _asked(library: str, file: str, memory_bytes: Sequence[int], settings: Mapping[str, Any]) -> Any:
    """Where it lies, or why it was refused; None: the devices are of another version."""
    import llama_cpp

    log: list[str] = []
    keep = llama_cpp.llama_log_callback(lambda level, text, data: log.append(text.decode("utf-8", "replace")))
    llama_cpp.llama_log_set(keep, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    devices = ctypes.CDLL(library)
    devices.fake_register.restype = ctypes.c_bool
    if not devices.fake_register(len(memory_bytes), (ctypes.c_size_t * len(memory_bytes))(*memory_bytes)):
        return None
    devices.fake_breakdown.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    return _placed(llama_cpp, devices, file, settings, log)


def _placed(llama_cpp: Any, library: Any, file: str, settings: Mapping[str, Any], log: list[str]) -> Any:
    from llmctl.engine.llama_cpp.dry_run import LOAD_MODE_NONE
    from llmctl.engine.llama_cpp.loading import adjusted, context_params

    loading = llama_cpp.llama_model_default_params()
    loading.no_alloc, loading.load_mode = True, LOAD_MODE_NONE
    with adjusted(loading, settings):
        model = llama_cpp.llama_model_load_from_file(file.encode(), loading)
    context = model and llama_cpp.llama_init_from_model(model, context_params(settings))
    text = "".join(log)
    if not context:
        return text[-300:]
    breakdown = ctypes.create_string_buffer(BREAKDOWN_BYTES)
    library.fake_breakdown(ctypes.cast(context, ctypes.c_void_p), breakdown, BREAKDOWN_BYTES)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    assigned = re.findall(r"layer +(\d+) assigned to device (\S+),", text)
    offloaded = re.search(r"offloaded (\S+) layers", text)
    return {
        "buffers": json.loads(breakdown.value),
        "cpu_layers": [int(layer) for layer, device in assigned if device == "CPU"],
        "offloaded": offloaded[1] if offloaded else "",
        "output_mib": sum(map(float, re.findall(r"output buffer size = +([\d.]+)", text))),
    }


def main() -> None:
    """In the child: a question on stdin, answers on stdout."""
    import llama_cpp  # noqa: F401  # once for all forks

    import llmctl.engine.llama_cpp.dry_run
    import llmctl.engine.llama_cpp.loading  # noqa: F401

    question = json.load(sys.stdin)
    print(json.dumps([_forked(question["library"], question["file"], *wanted) for wanted in question["wanted"]]))


if __name__ == "__main__":
    main()
