"""What the installed engine is, what it can run on, and how that changes what the machine is.

``python -m llmctl.engine.devices`` is the child that loads llama-cpp-python and lists its devices.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from llmctl import catalogue, paths
from llmctl.engine.devices import pairing
from llmctl.engine.devices.pairing import BACKENDS, CPU_BACKENDS
from llmctl.engine.install.remedies import ANOTHER_CPU
from llmctl.engine.measure import kernels
from llmctl.files import measured_cache
from llmctl.files.decode import FieldError, decode
from llmctl.host import Host
from llmctl.planner import kernel_rows
from llmctl.probe import cpu as processor
from llmctl.probe import probe
from llmctl.probe.stopwatch import Stopwatch
from llmctl.struct import asdict
from llmctl.types.machine import Accelerator, AcceleratorKind, EngineDevice, EngineInfo, Kernels, Machine, Memory

NAME = "llama-cpp-python"
MODULE = "llama_cpp"
SUBJECT = "engine"
DEADLINE_S = 30.0  # a cold disk, and drivers that wake up a card
MEASURED = "measured (engine kernels)"
ESTIMATED = "estimated (engine kernels, measured on a busy machine)"
# The quantized weight type with the least to unpack and no second layout: its rate is the memory's bandwidth as
# llama.cpp can use it. Within 11 % of the engine's effective rate on five models of 1 to 3.8 GB in Q4_0, Q4_K and Q8_0
# on two cores of an AMD EPYC (tests/bench/bandwidth_against_engine.py); the fastest type: up to 39 % too high.
PLAINEST = "Q8_0"
DECODING = "decode_bytes_per_s"

SPELT = {"MTL": "Metal"}  # as people call it, where a backend's own name is another

WINDOWS_ILLEGAL_INSTRUCTION = "0xc000001d"  # ctypes makes an OSError of it, which has this in its text


def this_machine(host: Host, *, store: Path, watch: Stopwatch | None = None) -> tuple[Machine, tuple[EngineInfo, ...]]:
    """The machine as the probe and the engine see it, with the kernels' rates that were measured earlier; and the
    engine. Raises nothing."""
    watch = watch or Stopwatch()
    machine = probe(host, store=store, watch=watch)
    with watch.part("engine"):
        answered = engines(host)
    ours = startable(answered)
    if ours is None:
        return with_engine(machine, answered, None), answered
    return with_known_cards(host, with_engine(machine, answered, kernels.cached(host, machine, ours)), ours), answered


def with_known_cards(host: Host, machine: Machine, engine: EngineInfo) -> Machine:
    """``machine`` with what was measured earlier of its GPUs."""
    cards = (
        replace(card, kernels=kernels.cached_device(host, card, engine)) if card.engine_device else card
        for card in machine.accelerators
    )
    return replace(machine, accelerators=tuple(cards))


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
        engine, why = None, f"{ANOTHER_CPU} (it was stopped by an illegal instruction)"
    return engine or EngineInfo(NAME, None, None, why=why)


def build(engine: EngineInfo) -> str:
    """The exact build, in the words of a started engine (``worker_process.Engine.build``)."""
    return ", ".join(filter(None, (f"{engine.name} {engine.version}", engine.build)))


def engine_summary() -> str:
    """One line for --version: "llama-cpp-python 0.3.36 (ggml 0.25.3 d25f87b; CPU)"."""
    return ", ".join(summary(engine) for engine in engines(Host()))


def summary(engine: EngineInfo) -> str:
    if not engine.usable:
        return f"{engine.name} not usable: {engine.why}"
    about = "; ".join(part for part in (engine.build, " ".join(engine.backends)) if part)
    return f"{engine.name} {engine.version} ({about})"


def with_engine(machine: Machine, engines: Sequence[EngineInfo], measured: Kernels | None) -> Machine:
    """``machine`` with the engine's view merged in. Pure.

    A card that both know is one card (``pairing``); a GPU that only the engine sees is added; one that the engine
    can't use gets ``usable`` False and ``why``. Where several backends see a card, its backend is the first in ggml's
    list, as in llama.cpp (llama_prepare_model_devices() in src/llama.cpp): CUDA or ROCm, Metal, SYCL, then Vulkan.
    Memory bandwidth is the rate of PLAINEST with all usable threads.
    """
    cards = list(machine.accelerators)
    listed: dict[int, EngineDevice] = {}  # by card, the device of the first backend that sees it
    engine = startable(engines)
    gpus = [device for device in engine.devices if pairing.is_gpu(device)] if engine is not None else []
    for backend in dict.fromkeys(device.backend for device in gpus):
        devices = [device for device in gpus if device.backend == backend]
        pairs = pairing.pairs(cards, devices)
        for index, device in enumerate(devices):
            if index not in pairs:
                if any(pairing.same_address(card, device) for card in cards):
                    continue  # one more of a card that is paired: llama.cpp can split a GPU to try itself out
                pairs[index] = len(cards)
                cards.append(_only_engine_knows(device, cards))
            listed.setdefault(pairs[index], device)
    used_parents = {cards[index].parent for index in listed} - {None}
    memory = machine.memory
    if measured is not None:
        memory = _with_rate(replace(machine, kernels=measured))
    accelerators = []
    for index, card in enumerate(cards):
        if index in listed:
            card = _usable(card, listed[index])
        elif card.parent in used_parents:
            card = replace(card, engine_backend=None, usable=False, why=_other_slice(card))
        else:
            card = replace(card, engine_backend=None, usable=False, why=_why(card, engines))
        accelerators.append(_with_bandwidth(card, memory))
    return replace(machine, accelerators=tuple(accelerators), memory=memory, kernels=measured)


def _with_rate(machine: Machine) -> Memory:
    """The memory with its bandwidth as the engine's kernels use it: as measured with all usable threads, or estimated
    from what other programs left undisturbed. Where that is nothing, it stays as it was."""
    certain = kernel_rows.measured(machine.kernels or Kernels(())).certain
    decoding = {
        figure: rate for figure, rate in certain.items() if figure.group == "matrices" and figure.rate == DECODING
    }
    if not decoding:
        return machine.memory
    plainest = (PLAINEST, machine.cpu.usable_threads)
    usable = [rate for figure, rate in decoding.items() if (figure.kind[0], figure.threads) == plainest]
    if usable:
        return replace(machine.memory, bandwidth_bytes_per_s=max(usable), bandwidth_basis=MEASURED)
    constants = catalogue.load_knowledge(paths.profiles_dir()).speed
    rows = kernel_rows.completed(machine, constants).matrices
    rate = max(row.decode_bytes_per_s for row in rows if row.weight_type == PLAINEST)
    return replace(machine.memory, bandwidth_bytes_per_s=rate, bandwidth_basis=ESTIMATED)


def _with_bandwidth(card: Accelerator, memory: Memory) -> Accelerator:
    """A GPU without memory of its own has the machine's bandwidth."""
    if card.kind is AcceleratorKind.DISCRETE or card.bandwidth_bytes_per_s or not memory.bandwidth_bytes_per_s:
        return card
    return replace(card, bandwidth_bytes_per_s=memory.bandwidth_bytes_per_s, bandwidth_basis=memory.bandwidth_basis)


def _usable(card: Accelerator, device: EngineDevice) -> Accelerator:
    """The card with what the engine knows of it as ``device``."""
    backend = SPELT.get(device.backend, device.backend)
    whole = _completed(card, device)
    return replace(whole, engine_backend=backend, engine_device=device.name, usable=True, why=None)


def _other_slice(card: Accelerator) -> str:
    return f"CUDA uses another slice of its card: CUDA_VISIBLE_DEVICES={card.uuid or card.id} chooses this one"


def _completed(card: Accelerator, device: EngineDevice) -> Accelerator:
    """``card`` with what the probe did not learn of it. An engine that calls it integrated is right, one that does not
    may be wrong: ROCm's driver doesn't always report it.

    The probe's free memory stands: it is the whole card's. An engine's is what is left beside the context that it made
    to ask, and Vulkan's a guess of the driver, or all there is (no VK_EXT_memory_budget).
    """
    kind = card.kind
    if device.kind == "igpu" and kind is AcceleratorKind.DISCRETE:
        kind = pairing.kind(card.vendor, device)
    listed_total = device.memory_total_bytes or None  # 0 where the driver doesn't report it
    total = card.memory_total_bytes or listed_total
    if listed_total is not None and card.vendor == "Apple" and kind is AcceleratorKind.UNIFIED:
        total = listed_total  # Metal's recommended working set itself, which the probe can only work out
    free = card.memory_free_bytes
    if free is None and listed_total is not None:
        free = min(device.memory_free_bytes, total or 0)
    if free is not None and total is not None:
        free = min(free, total)
    shared = card.shared_bytes
    if kind is AcceleratorKind.UNIFIED or (
        shared is None and kind is not AcceleratorKind.DISCRETE and card.memory_total_bytes is None
    ):
        shared = total
    return replace(card, kind=kind, memory_total_bytes=total, memory_free_bytes=free, shared_bytes=shared)


def _why(card: Accelerator, engines: Iterable[EngineInfo]) -> str:
    """Why the engine can't use a card that it does not list."""
    engine = startable(engines)
    if engine is None:
        return next((engine.why for engine in engines if engine.why), "no engine is installed")
    backends = [backend for backend in engine.backends if backend not in CPU_BACKENDS]
    if not backends:
        return "the engine is built for the CPU only"
    fitting = [backend for backend in backends if backend in BACKENDS.get(card.vendor, ())]
    if fitting:
        return f"the engine's {fitting[0]} backend does not see it"
    return f"the engine is built for {', '.join(backends)}, which can't drive {card.vendor} cards"


def _only_engine_knows(device: EngineDevice, cards: Sequence[Accelerator]) -> Accelerator:
    address, taken = pairing.address(device.id), {card.id for card in cards}
    id = "{:04x}:{:02x}:{:02x}.{:x}".format(*address) if address else device.name
    others = (f"{id}-{number}" for number in range(2, len(taken) + 3))
    vendor = pairing.vendor(device)
    blank = Accelerator(
        id=next(candidate for candidate in (id, *others) if candidate not in taken),
        name=device.description or device.name,
        vendor=vendor,
        kind=pairing.kind(vendor, device),
        memory_total_bytes=None,
        memory_free_bytes=None,
    )
    return _completed(blank, device)


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
