"""What the installed engine is, what it can run on, and how that changes what the machine is.

``python -m llmctl.engine.devices`` is the child that loads the engine and tells.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from llmctl import child
from llmctl.engine import cache, kernels
from llmctl.host import Host
from llmctl.probe import cpu as processor
from llmctl.probe import probe
from llmctl.probe.decode import MismatchError, decode
from llmctl.probe.stopwatch import Stopwatch
from llmctl.types.machine import Accelerator, AcceleratorKind, EngineDevice, EngineInfo, KernelRate, Machine

NAME = "llama-cpp-python"
MODULE = "llama_cpp"
SUBJECT = "engine"
DEADLINE_S = 30.0  # a cold disk, and drivers that wake up a card
MEASURED = "measured (engine kernels)"
# The weight type with the least to unpack of those that are quantized, and no second layout: what it is streamed with
# is what memory gives to llama.cpp. Within 11 % of the engine's effective rate on five models of 1 to 3.8 GB in Q4_0,
# Q4_K and Q8_0 on two cores of an AMD EPYC (tests/bench/bandwidth_against_engine.py), where the fastest type told up to
# 39 % too much.
PLAINEST = "Q8_0"

CPU_BACKENDS = frozenset({"CPU", "BLAS"})
# ggml's backends by the vendor whose GPUs they drive (the names that each ggml_backend_*_reg gives itself)
BACKENDS = {
    "NVIDIA": ("CUDA", "Vulkan", "OpenCL"),
    "AMD": ("ROCm", "CUDA", "Vulkan", "OpenCL"),
    "Intel": ("SYCL", "OPENVINO", "Vulkan", "OpenCL"),
    "Apple": ("Metal", "MTL", "Vulkan"),
}
VENDORS = {"CUDA": "NVIDIA", "ROCm": "AMD", "SYCL": "Intel", "Metal": "Apple", "MTL": "Apple"}


def this_machine(host: Host, *, store: Path, watch: Stopwatch | None = None) -> tuple[Machine, tuple[EngineInfo, ...]]:
    """The machine with what only the engine knows, and the engines. Its kernels' speed is what was measured here
    earlier, if it was. Raises nothing."""
    watch = watch or Stopwatch()
    machine = probe(host, store=store, watch=watch)
    with watch.part("engine"):
        found = engines(host)
    usable = next((engine for engine in found if engine.usable), None)
    rates = kernels.cached(host, machine, usable) if usable else None
    return with_engine(machine, found, rates or ()), found


def engines(host: Host) -> tuple[EngineInfo, ...]:
    """The engines installed here. What a build for the CPU alone tells never changes, so it is asked once; a build
    with GPU backends is asked each time, because free device memory must be fresh."""
    if not host.live:
        return (ask(host),)
    package = _package()
    if package is None:
        return (EngineInfo(NAME, None, None, why=f"{NAME} is not installed"),)
    key = _key(host, package)
    known = cache.read(SUBJECT, key)
    if known is not None:
        try:
            return (decode(EngineInfo, known, SUBJECT),)
        except MismatchError:
            pass  # written by another version of ours
    engine = ask(host)
    if engine.usable and set(engine.backends) <= CPU_BACKENDS:
        cache.write(SUBJECT, key, asdict(engine))
    return (engine,)


def ask(host: Host, *, deadline_s: float = DEADLINE_S) -> EngineInfo:
    """Loads the engine in a child and multiplies two matrices with it, whatever happens there."""
    reply = host.ask("llmctl.engine.devices", deadline_s=deadline_s)
    if reply.illegal_instruction:
        why = "this build is for another CPU (it was stopped by an illegal instruction)"
        return EngineInfo(NAME, None, None, why=why)
    if reply.data is None:
        return EngineInfo(NAME, None, None, why=f"{NAME} {reply.why}")
    try:
        return decode(EngineInfo, reply.data, SUBJECT)
    except MismatchError as error:
        return EngineInfo(NAME, None, None, why=f"{NAME} gave an answer that can't be read ({error})")


def engine_summary() -> str:
    """One line for --version: "llama-cpp-python 0.3.36 (ggml 0.25.3 d25f87b; CPU)"."""
    return ", ".join(summary(engine) for engine in engines(Host()))


def summary(engine: EngineInfo) -> str:
    if not engine.usable:
        return f"{engine.name} not usable: {engine.why}"
    about = "; ".join(part for part in (engine.build, " ".join(engine.backends)) if part)
    return f"{engine.name} {engine.version} ({about})"


def with_engine(machine: Machine, engines: Sequence[EngineInfo], rates: Sequence[KernelRate]) -> Machine:
    """``machine`` with the engine's view merged in. Pure.

    A card that both know is one card, told apart by PCI address, else by name; a GPU that only the engine sees is
    added; one that no engine can use gets ``usable`` False and ``why``. Memory bandwidth is the rate of PLAINEST.
    """
    usable = [engine for engine in engines if engine.usable]
    devices = [d for engine in usable for d in engine.devices if d.kind in ("gpu", "igpu")]
    cards = []
    for card in machine.accelerators:
        same = [device for device in devices if _same(card, device, machine.accelerators, devices)]
        if same:
            cards.append(_usable(card, same[0]))
            # two cards of one name are two devices of one backend; the same card again is one of another backend
            devices = [d for d in devices if d is not same[0] and (d not in same or d.backend == same[0].backend)]
        else:
            cards.append(replace(card, usable=False, why=_why(card, engines)))
    backend: dict[str, str] = {}
    for device in devices:
        backend.setdefault(device.id or device.description, device.backend)
    others = [d for d in devices if backend[d.id or d.description] == d.backend]
    cards += [_only_engine_knows(device) for device in others]
    memory = machine.memory
    if rates:
        plainest = next((rate for rate in rates if rate.weight_type == PLAINEST), rates[0])
        memory = replace(memory, bandwidth_bytes_per_s=plainest.decode_bytes_per_s, bandwidth_basis=MEASURED)
    return replace(machine, accelerators=tuple(cards), memory=memory, kernels=tuple(rates))


def _same(
    card: Accelerator, device: EngineDevice, cards: Sequence[Accelerator], devices: Sequence[EngineDevice]
) -> bool:
    if device.id and ":" in card.id:
        return device.id.lower() == card.id
    if card.name.lower() == device.description.lower():
        return True
    of_vendor = [one for one in cards if one.vendor == card.vendor]
    named = {one.description for one in devices if card.vendor.lower() in one.description.lower()}
    return len(of_vendor) == 1 and named == {device.description}


def _usable(card: Accelerator, device: EngineDevice) -> Accelerator:
    kind = card.kind
    if kind is not AcceleratorKind.UNIFIED:
        kind = AcceleratorKind.INTEGRATED if device.kind == "igpu" else AcceleratorKind.DISCRETE
    return replace(
        card,
        kind=kind,
        memory_total_bytes=card.memory_total_bytes or device.memory_total_bytes,
        memory_free_bytes=device.memory_free_bytes if card.memory_free_bytes is None else card.memory_free_bytes,
        engine_backend=device.backend,
        usable=True,
        why=None,
    )


def _why(card: Accelerator, engines: Iterable[EngineInfo]) -> str:
    usable = [engine for engine in engines if engine.usable]
    if not usable:
        return next((engine.why for engine in engines if engine.why), "no engine is installed")
    backends = [backend for engine in usable for backend in engine.backends if backend not in CPU_BACKENDS]
    if not backends:
        return "the engine is built for the CPU only"
    fitting = [backend for backend in backends if backend in BACKENDS.get(card.vendor, ())]
    if fitting:
        return f"the engine's {fitting[0]} backend does not see it"
    return f"the engine is built for {', '.join(backends)}, which can't drive {card.vendor} cards"


def _only_engine_knows(device: EngineDevice) -> Accelerator:
    vendor = VENDORS.get(device.backend)
    if vendor is None:
        words = device.description.lower()
        vendor = next((name for name in BACKENDS if name.lower() in words), "unknown")
    kind = AcceleratorKind.INTEGRATED if device.kind == "igpu" else AcceleratorKind.DISCRETE
    return Accelerator(
        id=device.id or device.name,
        name=device.description or device.name,
        vendor=vendor,
        kind=AcceleratorKind.UNIFIED if vendor == "Apple" else kind,
        memory_total_bytes=device.memory_total_bytes,
        memory_free_bytes=device.memory_free_bytes,
        engine_backend=device.backend,
        usable=True,
    )


def _package() -> Path | None:
    """The folder of the engine's package, without importing it."""
    try:
        spec = importlib.util.find_spec(MODULE)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _key(host: Host, package: Path) -> tuple[object, ...]:
    """Changes whenever the engine, what it needs beside it, or the processor does."""
    libraries = Path(os.environ.get("LLAMA_CPP_LIB_PATH") or package / "lib")  # the binding's own override
    parts: list[object] = [processor.name(host), sys.executable]
    try:
        parts.append(package.parent.stat().st_mtime_ns)  # something was installed or removed next to it
        for file in (package / "__init__.py", *sorted(libraries.iterdir())):
            stat = file.stat()
            parts.append(f"{file} {stat.st_size} {stat.st_mtime_ns}")
    except OSError as error:
        parts.append(str(error))
    return tuple(parts)


def _tell(_: Any) -> dict[str, Any]:
    """In the child: everything that EngineInfo holds."""
    from llmctl.engine import ggml, matmul

    try:
        from llama_cpp import __version__

        library = ggml.Ggml()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return asdict(EngineInfo(NAME, None, None, why=f"{NAME} can't be loaded: {str(error)[:200]}"))
    matmul.try_out()  # a build for another CPU ends here, with an illegal instruction
    devices = [
        EngineDevice(
            name=props.name.decode("utf-8", "replace"),
            description=props.description.decode("utf-8", "replace").strip(),
            backend=backend,
            kind=ggml.DEVICE_KINDS[props.type] if props.type < len(ggml.DEVICE_KINDS) else "unknown",
            memory_total_bytes=props.memory_total,
            memory_free_bytes=props.memory_free,
            id=props.device_id.decode("utf-8", "replace").lower() if props.device_id else None,
        )
        for backend, props in library.devices()
    ]
    build = f"ggml {library.version().decode()} {library.commit().decode()}"
    return asdict(
        EngineInfo(
            name=NAME,
            version=__version__,
            build=build,
            backends=tuple(library.backends()),
            features=tuple(library.features()),
            devices=tuple(devices),
            usable=True,
        )
    )


if __name__ == "__main__":
    sys.exit(child.answer(_tell))
