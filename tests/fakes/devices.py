"""llama.cpp's own placement of a model on devices that compute nothing: ``device.cpp``, compiled where a compiler is.

    with no machine: placements(build(folder), file, memory_bytes, configurations)

asks a child of this interpreter, since devices can't be taken back and a wrong combination of settings aborts.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmctl.struct import asdict
from llmctl.types.plan import Configuration

SOURCE = Path(__file__).with_name("device.cpp")
DEADLINE_S = 120
BREAKDOWN_BYTES = 1 << 14


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


def placements(
    library: Path, file: Path, memory_bytes: Sequence[int], configurations: Sequence[Configuration]
) -> list[Placed | str]:
    """For each of the configurations, with so much free memory on each device; or why it was refused."""
    question = {
        "library": str(library),
        "file": str(file),
        "memory_bytes": list(memory_bytes),
        "settings": [asdict(configuration) for configuration in configurations],
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
        return [f"aborted: {done.stderr[-300:]}"] * len(configurations)
    answers = json.loads(done.stdout)
    if isinstance(answers, str):
        raise UnavailableError(answers)
    return [answer if isinstance(answer, str) else Placed(**answer) for answer in answers]


def _tell(question: Mapping[str, Any]) -> list[Any] | str:
    """In the child."""
    import llama_cpp

    log: list[str] = []
    keep = llama_cpp.llama_log_callback(lambda level, text, data: log.append(text.decode("utf-8", "replace")))
    llama_cpp.llama_log_set(keep, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    library, memory = ctypes.CDLL(question["library"]), question["memory_bytes"]
    library.fake_register.restype = ctypes.c_bool
    if not library.fake_register(len(memory), (ctypes.c_size_t * len(memory))(*memory)):
        return "the installed engine is of another version than the devices"
    library.fake_breakdown.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    return [_placed(llama_cpp, library, question["file"], settings, log) for settings in question["settings"]]


def _placed(llama_cpp: Any, library: Any, file: str, settings: Mapping[str, Any], log: list[str]) -> Any:
    from llmctl.engine.llama_cpp.dry_run import LOAD_MODE_NONE
    from llmctl.engine.llama_cpp.loading import adjusted, context_params

    log.clear()
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


if __name__ == "__main__":
    print(json.dumps(_tell(json.load(sys.stdin))))
