"""What the installed engine is and what it can run on; ``machine`` completes this machine with it.

``python -m llmctl.engine.devices`` is the child that loads llama-cpp-python and lists its devices.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from llmctl.engine.devices.pairing import CPU_BACKENDS
from llmctl.files import measured_cache
from llmctl.files.decode import FieldError, decode
from llmctl.host import Host
from llmctl.probe import cpu as processor
from llmctl.struct import asdict
from llmctl.types.machine import EngineInfo

NAME = "llama-cpp-python"
MODULE = "llama_cpp"
SUBJECT = "engine"
DEADLINE_S = 30.0  # a cold disk, and drivers that wake up a card

WINDOWS_ILLEGAL_INSTRUCTION = "0xc000001d"  # ctypes makes an OSError of it, which has this in its text


def startable(engines: Iterable[EngineInfo]) -> EngineInfo | None:
    """The engine that llmctl runs models with; None if none of ``engines`` can be used."""
    return next((engine for engine in engines if engine.usable), None)


def engines(host: Host) -> tuple[EngineInfo, ...]:
    """llama-cpp-python, whether it can be used or not: the reason is in ``why``.

    An engine that lists nothing but the CPU is asked once; one that lists GPUs each time, because free device memory
    must be fresh.
    """
    if not host.live:
        return (ask(host),)
    package = _package()
    if package is None:
        return (EngineInfo(NAME, None, None, why=f"{NAME} is not installed"),)
    key = _key(host, package)
    cached = _cached(key)
    if cached is not None:
        return (cached,)
    engine = ask(host)
    if engine.usable and set(engine.backends) <= CPU_BACKENDS:
        measured_cache.write(SUBJECT, key, asdict(engine))
    return (engine,)


def _cached(key: Sequence[object]) -> EngineInfo | None:
    """The engine's answer under ``key``; None if there is none, or one that another version of llmctl wrote."""
    answer = measured_cache.read(SUBJECT, key)
    try:
        return None if answer is None else decode(EngineInfo, answer, SUBJECT)
    except FieldError:
        return None


def ask(host: Host, *, deadline_s: float = DEADLINE_S) -> EngineInfo:
    """Loads llama-cpp-python in a child process and multiplies two matrices with it. Raises nothing: what goes wrong is
    in ``why``."""
    reply = host.ask("llmctl.engine.devices", deadline_s=deadline_s)
    try:
        engine = decode(EngineInfo, reply.data, SUBJECT) if reply.data is not None else None
        why = engine.why if engine else f"{NAME} {reply.why}"
    except FieldError as error:
        engine, why = None, f"{NAME} gave an answer that can't be read ({error})"
    if reply.illegal_instruction or WINDOWS_ILLEGAL_INSTRUCTION in (why or "").lower():
        from llmctl.engine.install.remedies import ANOTHER_CPU

        engine, why = None, f"{ANOTHER_CPU} (it was stopped by an illegal instruction)"
    return engine or EngineInfo(NAME, None, None, why=why)


def build(engine: EngineInfo) -> str:
    """The exact build, in the words of a started engine (``worker_process.Engine.build``)."""
    return ", ".join(filter(None, (f"{engine.name} {engine.version}", engine.build)))


def summary(engine: EngineInfo) -> str:
    """An engine for --version: "llama-cpp-python 0.3.36 (ggml 0.25.3 d25f87b; CPU)"."""
    if not engine.usable:
        return f"{engine.name} not usable: {engine.why}"
    about = "; ".join(part for part in (engine.build, " ".join(engine.backends)) if part)
    return f"{engine.name} {engine.version} ({about})"


def _package() -> Path | None:
    """The folder of the engine's package, without importing it."""
    try:
        spec = importlib.util.find_spec(MODULE)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def libraries() -> Path | None:
    """The folder of the engine's own libraries; None without an engine."""
    package = _package()
    return None if package is None else _libraries(package)


def _libraries(package: Path) -> Path:
    return Path(os.environ.get("LLAMA_CPP_LIB_PATH") or package / "lib")  # the binding's own override


def _key(host: Host, package: Path) -> tuple[object, ...]:
    """A cache key that changes with the engine, the packages beside it, or the processor."""
    parts: list[object] = [processor.name(host), sys.executable]
    try:
        parts.append(package.parent.stat().st_mtime_ns)  # something was installed or removed next to it
        for file in (package / "__init__.py", *sorted(_libraries(package).iterdir())):
            stat = file.stat()
            parts.append(f"{file} {stat.st_size} {stat.st_mtime_ns}")
    except OSError as error:
        parts.append(str(error))
    return tuple(parts)
