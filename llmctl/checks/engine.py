"""Findings about the engine: whether it runs, with which instructions, and whether it can use the GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmctl.engine.devices import NAME, startable
from llmctl.engine.devices.pairing import BACKENDS
from llmctl.engine.install import (
    Installed,
    Remedy,
    build_for,
    driver_too_old,
    main_card,
    newer_driver,
    rebuild,
    remedies,
)
from llmctl.engine.measure.kernels import complete, figures, uncertain_figures
from llmctl.types.finding import Check, Status
from llmctl.types.kernels import Kernels
from llmctl.types.machine import Accelerator, EngineInfo, Machine

# Features whose absence from a build costs most, as the CPU and the build spell them.
WIDE = ("AVX2", "AVX512", "DOTPROD", "MATMUL_INT8")
# The command that lists the cards of a backend's driver, for a card that the engine's backend doesn't see.
DEVICE_LISTS = {
    "CUDA": "nvidia-smi   (a card that it does not list either needs its driver mended first)",
    "ROCm": "rocminfo   (a card that it does not list either needs its driver mended first)",
    "SYCL": "sycl-ls   (a card that it does not list either needs its driver mended first)",
    "Vulkan": "vulkaninfo --summary   (a card that it does not list either needs its Vulkan driver)",
}
MEASURE = "llmctl doctor --measure"
MEASURE_WHEN_QUIET = f"{MEASURE}   (when nothing else computes)"
CUDA_WHEELS_OF_MOST = 12  # the CUDA that a build which doesn't see the card was most likely made for


def checks(machine: Machine, engines: Sequence[EngineInfo], toolchain: Installed) -> Iterator[Check]:
    """The engine first: without it nothing else matters. ``toolchain`` decides which command installs a build."""
    ours = startable(engines)
    if ours is None:
        broken = _broken(machine, engines, toolchain)
        yield broken
        for card in machine.accelerators:
            yield Check("gpu", Status.WARN, f"{card.name} can't be used without {NAME}", broken.remedy)
        yield Check("kernels", Status.WARN, f"speeds can't be calibrated without {NAME}", broken.remedy)
        return
    yield Check("engine", Status.OK, f"{ours.name} {ours.version} loads and computes")
    yield _instructions(machine, ours, toolchain)
    yield from _gpus(machine, ours, toolchain)
    yield _kernels(machine)


def _broken(machine: Machine, engines: Sequence[EngineInfo], toolchain: Installed) -> Check:
    why = next((engine.why for engine in engines if engine.why), "no engine is installed")
    remedy = remedies.remedy(why, machine, toolchain) or rebuild(machine, toolchain)
    message = f"nothing can run here: {why}"
    return Check("engine", Status.FAIL, _needing(message, remedy), remedy.command)


def _instructions(machine: Machine, engine: EngineInfo, toolchain: Installed) -> Check:
    missing = [name for name in WIDE if name in machine.cpu.features and name not in engine.features]
    if engine.features and missing:
        remedy = rebuild(machine, toolchain)
        message = f"{engine.name} was built without {', '.join(missing)}, which this processor has: it is slower"
        return Check("engine-cpu", Status.WARN, _needing(message, remedy), remedy.command)
    return Check("engine-cpu", Status.OK, f"{engine.name} uses what this processor has")


def _gpus(machine: Machine, ours: EngineInfo, toolchain: Installed) -> Iterator[Check]:
    for card in machine.accelerators:
        if card.usable:
            yield Check("gpu", Status.OK, f"{card.name} is usable through {card.engine_backend}")
        else:
            yield from _unusable(card, machine, ours, toolchain)
    if not machine.accelerators:
        yield Check("gpu", Status.OK, "no GPU was found: models run on the CPU")


def _unusable(card: Accelerator, machine: Machine, ours: EngineInfo, toolchain: Installed) -> Iterator[Check]:
    """The findings for a GPU that can't be used: an old driver first, then why, with the command for the main card."""
    built = next((name for name in BACKENDS.get(card.vendor, ()) if name in ours.backends), None)
    old = driver_too_old(card, machine) or (driver_too_old(card, machine, cuda=CUDA_WHEELS_OF_MOST) if built else None)
    if old is not None:
        yield Check("gpu-driver", Status.WARN, f"{card.name}: {old}", newer_driver(machine))
    message = f"{card.name} can't be used: {card.why}"
    working = next((gpu for gpu in machine.accelerators if gpu.usable), None)
    if working is not None and card is not main_card(machine):  # not a fault: the engine runs on the better one
        yield Check("gpu", Status.OK, f"{message}; {working.name} is used instead")
    elif old is not None:
        yield Check("gpu", Status.WARN, message, newer_driver(machine))
    elif built is not None:
        yield Check("gpu", Status.WARN, message, DEVICE_LISTS.get(built))
    else:
        remedy = build_for(card, machine, toolchain) if card is main_card(machine) else None
        yield Check("gpu", Status.WARN, _needing(message, remedy), remedy.command if remedy else None)


def _needing(message: str, remedy: Remedy | None) -> str:
    return f"{message}; the command needs {remedy.needs}" if remedy is not None and remedy.needs else message


def _disturbance(kernels: Kernels) -> str:
    """What disturbed the measurement, in the past: "other programs (cc1plus) used 1.3 cores"."""
    if kernels.load is None:
        return "other programs kept the processor busy"
    words = str(kernels.load).replace(" use ", " used ").replace(" wait ", " waited ")
    return words.replace(" is hot and slows ", " was hot and slowed ")


def _kernels(machine: Machine) -> Check:
    kernels = machine.kernels
    if kernels is None:
        message = "the engine's kernels are not measured: speeds are estimates from figures"
        return Check("kernels", Status.WARN, message, MEASURE)
    if uncertain := uncertain_figures(kernels):
        message = (
            f"{_disturbance(kernels)} while the engine's kernels were measured: {uncertain} of {figures(kernels)} "
            "figures are estimates, with a wide range, until a command finds the machine quiet and measures them again"
        )
        return Check("kernels", Status.WARN, message, MEASURE_WHEN_QUIET)
    if not complete(machine.cpu, kernels):
        message = "the engine's kernels are measured in part: speeds are estimates, with a wide range"
        return Check("kernels", Status.WARN, message, MEASURE_WHEN_QUIET)
    names = ", ".join(dict.fromkeys(rate.weight_type for rate in kernels.matrices))
    return Check("kernels", Status.OK, f"speeds are calibrated with the engine's kernels ({names})")
