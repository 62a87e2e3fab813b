"""Finding an engine that has stayed, and ending those that are in the way."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmctl import __version__, child, units
from llmctl.engine import log
from llmctl.engine.jobs import job
from llmctl.engine.warm import entry
from llmctl.engine.warm.engine import WarmEngine, answers
from llmctl.engine.warm.entry import Entry, EntryFile, Ready
from llmctl.engine.worker_process import STOP_S, is_stopped
from llmctl.planner.memory import margin_bytes
from llmctl.types.listener import Listener
from llmctl.types.plan import CPU, Fit

LOADING_LOOK_S = 0.05
NOT_IN_KEY = ("file", "model", "sequences", "options")  # a server's options follow from the rest
ENGINE_VARIABLES = (
    *("GGML_", "LLAMA_", "OMP_", "GOMP_", "KMP_", "CUDA_", "HIP_", "ROCR_", "HSA_", "GPU_", "VK_", "ONEAPI_", "SYCL_"),
    *("ZE_", "MTL_", "LD_"),
)


def key_of(fit: Fit) -> str:
    """Stands for the file as it is now, the settings of a sequence, the engine's build and what it reads of the
    environment."""
    file = fit.candidate.path
    assert file is not None, "a plan is started after its file was fetched"
    settings = {name: value for name, value in job(fit).items() if name not in NOT_IN_KEY}
    environment = child.environment(os.environ)
    parts: list[Any] = [str(file.resolve()), *_version(file), settings, __version__, sys.executable]
    parts += [list(_libraries()), {name: environment[name] for name in sorted(environment) if _matters(name)}]
    beside = (fit.candidate.projector, None if fit.draft is None else fit.draft.candidate.path)
    parts += [_version(other) for other in beside if other is not None]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()


def _version(file: Path) -> list[int]:
    about = file.stat()
    return [about.st_size, about.st_mtime_ns]


def _matters(variable: str) -> bool:
    return variable.startswith(ENGINE_VARIABLES)


def _libraries() -> Iterator[tuple[str, int, int]]:
    """Name, size and time of the engine's compiled libraries: another build has others."""
    spec = find_spec("llama_cpp")
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent / "lib"
    for library in sorted(folder.iterdir()) if folder is not None and folder.is_dir() else ():
        about = library.stat()
        yield library.name, about.st_size, about.st_mtime_ns


def living(folder: Path) -> list[tuple[Path, Entry]]:
    """The engines that are there, or load. What others have left behind is removed."""
    engines = []
    for path in entry.listed(folder):
        about = entry.read(path)
        is_alive = about is not None and about.ready is not None and about.ready.process.is_alive
        if not is_alive and _removed(path):
            continue
        if about is not None and (is_alive or about.ready is None):
            engines.append((path, about))
    return engines


def _removed(path: Path) -> bool:
    """Removes an entry that no process stands behind; False where one does: whoever loads an engine uses its entry."""
    with_nobody = entry.take(path)
    if with_nobody is None:
        return False
    with with_nobody:
        about = with_nobody.read()
        if about is not None and about.ready is not None and about.ready.process.is_alive:
            return False
        with_nobody.remove()
    return True


def find(folder: Path, key: str, new: Entry | None, *, sequences: int = 1) -> WarmEngine | EntryFile | None:
    """The engine with that key and at least so many sequences, also one that another command loads just now. Where
    there is none: the file that was made for ``new``, or None. Raises OSError."""
    begun = time.perf_counter()
    with entry.alone(folder):
        paths = [path for path, about in living(folder) if about.key == key and about.sequences >= sequences]
        if not paths:
            return None if new is None else entry.create(folder, new)
    for path in paths:
        if (engine := adopted(path, begun)) is not None:
            return engine
    return None if new is None else entry.create(folder, new)


def adopted(path: Path, begun: float | None = None) -> WarmEngine | None:
    """The engine of that entry, once it has loaded; None where it doesn't answer. ``begun`` is when it was looked for,
    of ``time.perf_counter``."""
    begun = time.perf_counter() if begun is None else begun
    while (about := entry.read(path)) is not None and about.ready is None:
        if _removed(path):
            return None
        time.sleep(LOADING_LOOK_S)
    file = entry.use(path)
    if file is None:
        return None
    about = file.read()
    if about is not None and about.ready is not None and answers(about, about.ready):
        return WarmEngine(file, about, about.ready, load_s=time.perf_counter() - begun)
    file.close()
    if about is not None and about.ready is not None and is_stopped(about.ready.process.pid):
        _end_stopped(path, about.ready)
    return None


def _end_stopped(path: Path, ready: Ready) -> None:
    """Ends an engine that is stopped, unless a command uses it: no request of another program will go on."""
    if entry.lock_holders(path) != [ready.process.pid]:
        end_idle(path)
        return
    path.unlink(missing_ok=True)
    log.remove(ready.log)
    ready.process.end(STOP_S)


def end_idle(path: Path) -> bool:
    """Ends an engine unless somebody uses it; whether it is gone."""
    unused = entry.take(path)
    if unused is None:
        return False
    with unused:
        about = unused.read()
        unused.remove()
        if about is None or about.ready is None:
            return True
        log.remove(about.ready.log)
        return about.ready.process.end(STOP_S)


def idle(folder: Path) -> list[tuple[Path, Entry]]:
    """The engines that nobody uses, the one that was used least recently first."""
    engines = []
    for path, about in living(folder):
        unused = entry.take(path)
        if unused is not None:
            unused.close()
            engines.append((path, about))
    return sorted(engines, key=lambda pair: -entry.idle_s(pair[0]))


def held_bytes(about: Entry, device: str) -> int:
    """What ending the engine frees: of the machine's own memory as the system tells it, of a card as it was planned."""
    planned = about.memory.get(device, 0)
    if device != CPU or about.ready is None:
        return planned
    measured = about.ready.process.memory_bytes
    return planned if measured is None else measured


def held_by(engines: Sequence[tuple[Path, Entry]], fit: Fit) -> dict[str, int]:
    """Bytes of each of the plan's devices that the engines hold."""
    return {row.device: sum(held_bytes(about, row.device) for _, about in engines) for row in fit.memory.by_device}


def make_room(folder: Path, fit: Fit, listener: Listener) -> None:
    """Ends idle engines, those that were used least recently first, until ``fit`` has room: planning has counted what
    they hold as free."""
    waiting = idle(folder)
    held_by_all = held_by(waiting, fit)
    short = {
        row.device: row.total_bytes + margin_bytes(row.available_bytes) - row.available_bytes + held_by_all[row.device]
        for row in fit.memory.by_device
    }
    for path, about in waiting:
        held = {device: held_bytes(about, device) for device in short}
        in_the_way = any(missing > 0 and held[device] for device, missing in short.items())
        if in_the_way and end_idle(path):
            freed = units.size(sum(held.values()))
            listener.note(f"ended the idle engine of {about.model} {about.quant} to make room: {freed}")
            short = {device: missing - held[device] for device, missing in short.items()}
