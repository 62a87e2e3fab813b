"""What a machine means for who wants to run a model on it, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmctl import units
from llmctl.types.machine import EngineInfo, Machine

BYTES_PER_PARAMETER = 0.6  # at four to five bits each, which is usual
BESIDE_BYTES = 600_000_000  # context and what is computed in, of a small model
KEPT_SHARE = 0.2  # left to other programs
SLOW_BYTES_PER_S = 12e9  # what old laptops and boards have
WIDE = ("AVX2", "AVX512")
X86 = ("x86_64", "amd64")


def meaning(machine: Machine, engines: Sequence[EngineInfo], *, is_termux: bool = False) -> Iterator[str]:
    """Sentences, the most important first. No engine at all: the machine is a described one."""
    yield _processor(machine)
    yield _memory(machine)
    for card in machine.accelerators:
        if card.usable or not engines:
            yield f"{card.name} computes: many times as fast as the processor, where a model fits into its memory."
        else:
            yield f"{card.name} is not used: {card.why or 'the reason is not known'}."
    if not machine.accelerators:
        yield "There is no graphics card to compute on: the processor does it all, which is fine for small models."
    yield from _slow(machine)
    yield from _small(machine, is_termux=is_termux)
    broken = next((engine for engine in engines if not engine.usable), None)
    if broken is not None and not any(engine.usable for engine in engines):
        yield f"Nothing can run here yet: {broken.why}."


def _processor(machine: Machine) -> str:
    cpu = machine.cpu
    name = " · ".join(filter(None, (machine.board, cpu.name or cpu.arch)))
    fast = f", {cpu.performance_cores} of them fast" if cpu.performance_cores else ""
    return f"{name}: {units.number_of(cpu.usable_threads, 'core')} to compute with{fast}."


def _memory(machine: Machine) -> str:
    memory = machine.memory
    room = memory.available_bytes * (1 - KEPT_SHARE) - BESIDE_BYTES
    billions = room / BYTES_PER_PARAMETER / 1e9
    free = f"{units.size(memory.available_bytes)} of {units.size(memory.total_bytes)} memory is free"
    if billions < 0.3:
        return f"{free}: only the very smallest models fit."
    return f"{free}: models of up to some {billions:.2g} billion parameters fit, at four bits each."


def _slow(machine: Machine) -> Iterator[str]:
    cpu, fed = machine.cpu, machine.memory.bandwidth_bytes_per_s
    if cpu.features and cpu.arch.lower() in X86 and not set(WIDE) & set(cpu.features):
        yield (
            "This processor has no AVX2, so it reads prompts several times as slowly as newer ones: "
            "small models and short texts suit it."
        )
    if fed is not None and fed < SLOW_BYTES_PER_S and not any(card.usable for card in machine.accelerators):
        yield (
            f"Its memory feeds the engine at {units.rate(fed)}, which bounds how fast anything is written: "
            f"a model of 1 GB writes at most {units.tok_s(fed / 1e9)} tokens a second."
        )
    if machine.power is not None and machine.power.saving is not None:
        yield f"{machine.power.saving[:1].upper()}{machine.power.saving[1:]} keeps the processor slow."


def _small(machine: Machine, *, is_termux: bool) -> Iterator[str]:
    if (machine.board or "").startswith("Raspberry Pi"):
        yield (
            "A Raspberry Pi slows down when it gets hot: a cooler keeps its speed. From an SD card a model takes long "
            "to load the first time; a USB or NVMe disk is better."
        )
    if is_termux:
        yield (
            "This is Termux: Android ends what takes much memory, so small models are safer; there are no wheels for "
            "Android, what has to be compiled needs: pkg install clang cmake ninja."
        )
