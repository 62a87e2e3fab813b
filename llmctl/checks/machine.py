"""Findings about the machine itself, real or described."""

from __future__ import annotations

from collections.abc import Iterator

from llmctl import units
from llmctl.types.finding import Check, Status
from llmctl.types.machine import Machine

LITTLE_MEMORY_BYTES = 1 << 30  # below it only the smallest models fit, with a short context
SWAP_WANTED_BELOW_BYTES = 4 << 30
# Not over a file that is there.
MAKE_SWAP = (
    "test ! -e /swapfile && sudo fallocate -l 4G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile "
    "&& sudo swapon /swapfile"
)


def checks(machine: Machine, threads: int | None = None) -> tuple[Check, ...]:
    """The checks that make sense for any machine, described or real. ``threads`` is the user's setting."""
    return (*_notes(machine), _memory(machine), _threads(machine, threads), *_power(machine), _swap(machine))


def _notes(machine: Machine) -> tuple[Check, ...]:
    if not machine.notes:
        return (Check("probe", Status.OK, "everything about this machine could be read"),)
    return tuple(Check("probe", Status.WARN, note.message, note.remedy) for note in machine.notes)


def _memory(machine: Machine) -> Check:
    memory = machine.memory
    if memory.available_bytes < LITTLE_MEMORY_BYTES:
        message = f"only {units.size(memory.available_bytes)} of {units.size(memory.total_bytes)} of memory is free"
        if memory.limit_bytes is None:
            return Check("memory", Status.WARN, message, "close what uses it, then: llmctl doctor")
        limit = f"; it is limited to {units.size(memory.limit_bytes)} by {memory.limit_source}"
        more = "docker run --memory 8g …" if machine.container in ("docker", "podman") else None
        return Check("memory", Status.WARN, message + limit, more)
    if memory.limit_bytes is not None:
        message = f"memory is limited to {units.size(memory.limit_bytes)} by {memory.limit_source}"
        return Check("memory", Status.OK, message)
    return Check("memory", Status.OK, "memory is not limited by a container")


def _threads(machine: Machine, threads: int | None) -> Check:
    cpu = machine.cpu
    if threads is not None and threads > cpu.usable_threads:
        message = f"the setting threads is {threads}, but only {cpu.usable_threads} cores may be used: that is slower"
        return Check("threads", Status.WARN, message, "unset LLMCTL_THREADS   or take threads out of config.toml")
    used, why = cpu.usable_threads, cpu.usable_threads_reason or "affinity or CPU quota"
    if threads is not None and threads < used:
        used, why = threads, "that is the setting threads"
    if used < cpu.physical_cores:
        return Check("threads", Status.OK, f"{units.number_of(used, 'thread is', 'threads are')} used: {why}")
    if cpu.quota is not None and cpu.quota < used:
        message = f"all {cpu.physical_cores} cores may be used, for the time of {cpu.quota:.2g} of them"
        return Check("threads", Status.OK, f"{message}: the container's CPU quota")
    return Check("threads", Status.OK, f"all {cpu.physical_cores} cores may be used")


def _power(machine: Machine) -> Iterator[Check]:
    power = machine.power
    if power is not None and power.saving is not None:
        yield Check("power", Status.WARN, f"{power.saving} keeps the processor slow: speeds are those it has so")
    elif power is not None:
        yield Check("power", Status.OK, "it runs on its battery: speeds are measured apart from those on mains")


def _swap(machine: Machine) -> Check:
    memory = machine.memory
    if not memory.swap_bytes and memory.total_bytes < SWAP_WANTED_BELOW_BYTES:
        message = f"{units.size(memory.total_bytes)} of memory and no swap: what doesn't fit is killed, not slow"
        can_have_swap = machine.os.startswith("Linux") and machine.container is None
        return Check("swap", Status.WARN, message, MAKE_SWAP if can_have_swap else None)
    return Check("swap", Status.OK, "there is swap" if memory.swap_bytes else "there is no swap, nor need for it")
