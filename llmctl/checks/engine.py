"""Findings about the engine: whether it runs, with which instructions, and whether it can use the GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmctl.engine.devices import CPU_BACKENDS, NAME
from llmctl.engine.supervise import REINSTALL
from llmctl.types.finding import Check, Status
from llmctl.types.machine import EngineInfo, Machine

# Features whose absence from a build costs most, as the CPU and the build spell them.
WIDE = ("AVX2", "AVX512", "DOTPROD", "MATMUL_INT8")
BUILD_FLAGS = {"NVIDIA": "-DGGML_CUDA=on", "AMD": "-DGGML_VULKAN=on", "Intel": "-DGGML_VULKAN=on"}


def checks(machine: Machine, engines: Sequence[EngineInfo]) -> Iterator[Check]:
    """The engine first: without it nothing else matters."""
    usable = [engine for engine in engines if engine.usable]
    yield _engine(engines)
    yield from (_instructions(machine, engine) for engine in usable)
    yield from _gpus(machine, usable)
    yield _kernels(machine, usable)


def _engine(engines: Sequence[EngineInfo]) -> Check:
    for engine in engines:
        if engine.usable:
            return Check("engine", Status.OK, f"{engine.name} {engine.version} loads and computes")
    why = next((engine.why for engine in engines if engine.why), "no engine is installed")
    return Check("engine", Status.FAIL, f"nothing can run here: {why}", REINSTALL)


def _instructions(machine: Machine, engine: EngineInfo) -> Check:
    missing = [name for name in WIDE if name in machine.cpu.features and name not in engine.features]
    if engine.features and missing:
        return Check("engine-cpu", Status.WARN, f"{engine.name} was built without {', '.join(missing)}", REINSTALL)
    return Check("engine-cpu", Status.OK, f"{engine.name} uses what this processor has")


def _gpus(machine: Machine, usable: Sequence[EngineInfo]) -> Iterator[Check]:
    for card in machine.accelerators:
        if card.usable:
            yield Check("gpu", Status.OK, f"{card.name} is usable through {card.engine_backend}")
            continue
        flag = BUILD_FLAGS.get(card.vendor)
        built = any(set(engine.backends) - CPU_BACKENDS for engine in usable)
        remedy = None if built or flag is None or not usable else f"CMAKE_ARGS={flag} {REINSTALL}"
        yield Check("gpu", Status.WARN, f"{card.name} can't be used: {card.why}", remedy)
    if not machine.accelerators:
        yield Check("gpu", Status.OK, "no GPU was found: models run on the CPU")


def _kernels(machine: Machine, usable: Sequence[EngineInfo]) -> Check:
    if machine.kernels:
        names = ", ".join(rate.weight_type for rate in machine.kernels)
        return Check("kernels", Status.OK, f"speeds are calibrated with the engine's kernels ({names})")
    if not usable:
        return Check("kernels", Status.WARN, f"speeds can't be calibrated without {NAME}", REINSTALL)
    message = "the engine's kernels are not measured: speeds are estimates from figures"
    return Check("kernels", Status.WARN, message, "llmctl doctor --measure")
