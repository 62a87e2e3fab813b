"""What doctor finds: a pure function from facts to findings, each with the command that mends it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from llmctl import units
from llmctl.engine.devices import CPU_BACKENDS, NAME
from llmctl.engine.supervise import REINSTALL
from llmctl.errors import ConfigError, EngineError, LlmctlError, ResourceError
from llmctl.types.machine import EngineInfo, Machine

LITTLE_MEMORY_BYTES = 1 << 30  # below it only the smallest models fit, with a short context
LITTLE_DISK_BYTES = 10_000_000_000  # room for one model of 8 to 14 billion parameters at 4 to 5 bits
SWAP_WANTED_BELOW_BYTES = 4 << 30
OTHERS_MAY = 0o077

# Features whose absence from a build costs most, as the CPU and the build spell them.
WIDE = ("AVX2", "AVX512", "DOTPROD", "MATMUL_INT8")
BUILD_FLAGS = {"NVIDIA": "-DGGML_CUDA=on", "AMD": "-DGGML_VULKAN=on", "Intel": "-DGGML_VULKAN=on"}


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``id`` is stable; ``remedy`` is what to type, None where nothing is to be done."""

    id: str
    status: Status
    message: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is neither the machine nor the engine. ``threads`` is the user's setting; ``config_error`` tells what is
    wrong with the settings and ``config_hint`` what mends it; ``config_mode`` are the file's permission bits (None:
    there is no file, or no such bits here)."""

    store: Path
    store_writable: bool
    config_file: Path
    config_mode: int | None = None
    config_error: str | None = None
    config_hint: str | None = None
    threads: int | None = None


# What kind of error a finding is when it decides the exit code.
ERRORS: dict[str, type[LlmctlError]] = {
    "engine": EngineError,
    "engine-cpu": EngineError,
    "gpu": EngineError,
    "kernels": EngineError,
    "config": ConfigError,
    "config-permissions": ConfigError,
}


def checks(machine: Machine, engines: Sequence[EngineInfo], around: Surroundings) -> tuple[Check, ...]:
    """Every check of this machine, in the order in which a person would mend things."""
    usable = [engine for engine in engines if engine.usable]
    return (
        _engine(engines),
        *(_engine_cpu(machine, engine) for engine in usable),
        *_gpus(machine, usable),
        _kernels(machine, usable),
        *machine_checks(machine, around.threads),
        *_store(machine, around),
        *_config(around),
    )


def machine_checks(machine: Machine, threads: int | None = None) -> tuple[Check, ...]:
    """The checks that make sense for any machine, described or real."""
    return (_probe(machine), _memory(machine), _threads(machine, threads), _swap(machine))


def blocking(found: Sequence[Check], *, strict: bool) -> LlmctlError | None:
    """The error that the first failed check stands for; with ``strict`` warnings count. None on a healthy machine."""
    counted = [Status.FAIL, *([Status.WARN] if strict else [])]
    for status in counted:
        for check in found:
            if check.status is status:
                return ERRORS.get(check.id, ResourceError)(check.message, hint=check.remedy)
    return None


def _engine(engines: Sequence[EngineInfo]) -> Check:
    for engine in engines:
        if engine.usable:
            return Check("engine", Status.OK, f"{engine.name} {engine.version} loads and computes")
    why = next((engine.why for engine in engines if engine.why), "no engine is installed")
    return Check("engine", Status.FAIL, f"nothing can run here: {why}", REINSTALL)


def _engine_cpu(machine: Machine, engine: EngineInfo) -> Check:
    missing = [name for name in WIDE if name in machine.cpu.features and name not in engine.features]
    if engine.features and missing:
        return Check("engine-cpu", Status.WARN, f"{engine.name} was built without {', '.join(missing)}", REINSTALL)
    return Check("engine-cpu", Status.OK, f"{engine.name} uses what this processor has")


def _gpus(machine: Machine, usable: Sequence[EngineInfo]) -> list[Check]:
    found = []
    for card in machine.accelerators:
        if card.usable:
            found.append(Check("gpu", Status.OK, f"{card.name} is usable through {card.engine_backend}"))
            continue
        flag = BUILD_FLAGS.get(card.vendor)
        built = any(set(engine.backends) - CPU_BACKENDS for engine in usable)
        remedy = None if built or flag is None or not usable else f"CMAKE_ARGS={flag} {REINSTALL}"
        found.append(Check("gpu", Status.WARN, f"{card.name} can't be used: {card.why}", remedy))
    return found or [Check("gpu", Status.OK, "no GPU was found: models run on the CPU")]


def _kernels(machine: Machine, usable: Sequence[EngineInfo]) -> Check:
    if machine.kernels:
        names = ", ".join(rate.weight_type for rate in machine.kernels)
        return Check("kernels", Status.OK, f"speeds are calibrated with the engine's kernels ({names})")
    if not usable:
        return Check("kernels", Status.WARN, f"speeds can't be calibrated without {NAME}")
    message = "the engine's kernels are not measured: speeds are estimates from figures"
    return Check("kernels", Status.WARN, message, "llmctl doctor --measure")


def _probe(machine: Machine) -> Check:
    if machine.notes:
        return Check("probe", Status.WARN, "not everything could be learnt: " + "; ".join(machine.notes))
    return Check("probe", Status.OK, "everything about this machine could be read")


def _memory(machine: Machine) -> Check:
    memory = machine.memory
    if memory.available_bytes < LITTLE_MEMORY_BYTES:
        message = f"only {units.size(memory.available_bytes)} of memory is free"
        where = f", the limit is {memory.limit_source}" if memory.limit_bytes is not None else ""
        return Check("memory", Status.WARN, message + where, None)
    if memory.limit_bytes is not None:
        message = f"memory is limited to {units.size(memory.limit_bytes)} by {memory.limit_source}"
        return Check("memory", Status.OK, message)
    return Check("memory", Status.OK, "memory is not limited by a container")


def _threads(machine: Machine, threads: int | None) -> Check:
    cpu = machine.cpu
    if threads is not None and threads > cpu.usable_threads:
        message = f"the setting threads is {threads}, but only {cpu.usable_threads} cores may be used: that is slower"
        return Check("threads", Status.WARN, message, "unset LLMCTL_THREADS   or take threads out of config.toml")
    if cpu.usable_threads < cpu.physical_cores:
        message = f"{cpu.usable_threads} of {cpu.physical_cores} cores may be used (affinity or CPU quota)"
        return Check("threads", Status.OK, message)
    return Check("threads", Status.OK, f"all {cpu.physical_cores} cores may be used")


def _swap(machine: Machine) -> Check:
    memory = machine.memory
    if not memory.swap_bytes and memory.total_bytes < SWAP_WANTED_BELOW_BYTES:
        message = f"{units.size(memory.total_bytes)} of memory and no swap: what doesn't fit is killed, not slow"
        return Check("swap", Status.WARN, message)
    return Check("swap", Status.OK, "there is swap" if memory.swap_bytes else "there is no swap, nor need for it")


def _store(machine: Machine, around: Surroundings) -> list[Check]:
    writable = Check("store", Status.OK, f"{around.store} can be written")
    if not around.store_writable:
        message = f"{around.store} can't be written: models that are there run, new ones can't be fetched"
        writable = Check("store", Status.WARN, message, "export HF_HUB_CACHE=DIRECTORY")
    if machine.disk is None:
        return [writable]
    free = machine.disk.free_bytes
    if free < LITTLE_DISK_BYTES:
        message = f"only {units.size(free)} is free for models"
        return [writable, Check("disk", Status.WARN, message, "export HF_HUB_CACHE=DIRECTORY on a larger disk")]
    return [writable, Check("disk", Status.OK, f"{units.size(free)} is free for models")]


def _config(around: Surroundings) -> list[Check]:
    file = around.config_file
    if around.config_error is not None:
        found = [Check("config", Status.FAIL, around.config_error, around.config_hint)]
    else:
        found = [Check("config", Status.OK, "the settings can be read")]
    if around.config_mode is not None and around.config_mode & OTHERS_MAY:
        message = f"{file} is open to other users of this machine (mode {around.config_mode:04o})"
        found.append(Check("config-permissions", Status.WARN, message, f"chmod 600 {shlex.quote(str(file))}"))
    else:
        found.append(Check("config-permissions", Status.OK, "the settings are the user's own"))
    return found
