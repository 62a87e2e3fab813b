"""Builds of llama-cpp-python by what they compute on: the command for each, and why it has to be compiled. Pure."""

from __future__ import annotations

from llmctl.engine.install import (
    COMPILER,
    GPU_GLIBC,
    WHEEL_MACHINES,
    Installed,
    Remedy,
    build_for,
    is_windows,
    source,
    vulkan,
)
from llmctl.probe.gpu.drm import VIRTUAL_MACHINE
from llmctl.types.engine_name import BuildName
from llmctl.types.machine import Machine

BACKENDS = {"CUDA": BuildName.CUDA, "ROCm": BuildName.ROCM, "Vulkan": BuildName.VULKAN, "MTL": BuildName.METAL}


def remedy_named(name: BuildName, machine: Machine, toolchain: Installed) -> Remedy | None:
    """What installs the build ``name``; None where the machine has no GPU for it."""
    if name is BuildName.CPU:
        return Remedy(source(machine, toolchain), COMPILER, "CPU")
    cards = [card for card in machine.accelerators if card.driver not in VIRTUAL_MACHINE]
    if name is BuildName.VULKAN:
        return vulkan(machine, toolchain) if cards else None
    made = (build_for(card, machine, toolchain) for card in cards)
    return next((remedy for remedy in made if remedy is not None and BACKENDS.get(remedy.backend or "") is name), None)


def why_compiled(name: BuildName, machine: Machine, toolchain: Installed) -> str:
    """Why there is no wheel to fetch, to go on from "it is compiled here, because"."""
    if name is BuildName.CPU:
        return "only a build made here uses all instructions of this processor"
    if machine.cpu.arch.lower() not in WHEEL_MACHINES:
        return f"wheels for GPUs are made for {WHEEL_MACHINES[0]} alone, and this is {machine.cpu.arch}"
    glibc = toolchain.glibc
    if not is_windows(machine) and glibc is not None and glibc < GPU_GLIBC:
        has = "another C library" if glibc == (0, 0) else f"glibc {'.'.join(map(str, glibc))}"
        return f"the wheels need glibc {'.'.join(map(str, GPU_GLIBC))}, and this system has {has}"
    return "no wheel was made for this card"
