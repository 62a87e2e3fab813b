"""How fast the engine's own kernels are on this machine: measured once, then remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from llmctl.engine import cache
from llmctl.errors import EngineError
from llmctl.host import Host
from llmctl.probe.decode import MismatchError, decode
from llmctl.types.machine import Accelerator, Cpu, EngineInfo, Kernels, Machine, MatrixRate

SUBJECT = "kernels"
KERNELS = "the engine's kernels"
USUAL_TYPES = ("Q4_K", "Q6_K", "Q8_0", "Q4_0", "Q5_K", "F16", "Q4_1")  # the last one is the starter's
WEIGHT_TYPES = (
    *(*USUAL_TYPES, "Q5_0", "MXFP4", "IQ4_NL", "IQ4_XS", "Q3_K", "Q2_K", "BF16", "Q5_1", "IQ3_S", "IQ3_XXS"),
)
QUICK_S = 1.6  # for the usual types; half of it more on a busy machine, and a second to begin
BUDGET_S = 4.0  # for all of them: within eight seconds in all, on a busy machine too
DEADLINE_S = 30.0  # a small board takes its time to import the engine and to fill the working set
WORKING_SET_BYTES = 256 << 20
LARGEST_SET_BYTES = 2 << 30
SMALLEST_SET_BYTES = 64 << 20  # holds a matrix of every type
DEVICE_SET_BYTES = 512 << 20  # beyond the largest cache of a GPU, 128 MB
DEVICE_BUDGET_S = 1.0
DEVICE_DEADLINE_S = 60.0  # drivers that compile their kernels at the first use take their time
BEYOND_CACHE = 4  # times the last cache, so that at most a quarter of a pass could come from it
BARELY_BEYOND_CACHE = 2
SHARE_OF_AVAILABLE = 6  # there may be two buffers of that size, and this is a measurement, not the main job


def cached(host: Host, machine: Machine, engine: EngineInfo) -> Kernels | None:
    """The rates measured earlier for this processor, number of threads and engine build; None if there are none."""
    return _remembered(host, _key(machine, engine))


def complete(kernels: Kernels | None, weight_types: Sequence[str] = USUAL_TYPES) -> bool:
    """Whether all of it has been measured. On a busy machine that can take more than one attempt."""
    if kernels is None:
        return False
    known = {rate.weight_type for rate in kernels.matrices}
    return bool(known.issuperset(weight_types) and kernels.experts and kernels.attention and kernels.overheads)


def measure(
    host: Host,
    machine: Machine,
    engine: EngineInfo,
    *,
    weight_types: Sequence[str] = USUAL_TYPES,
    again: bool = False,
    budget_s: float | None = None,
    deadline_s: float = DEADLINE_S,
) -> Kernels:
    """Measures ``weight_types`` in a child process if they are not all known (or ``again``), and remembers it.

    Decoding is matrix x vector over a working set beyond the last cache, prefill is matrix x 512 columns; see
    ``matmul`` and ``attention`` for the methods. Returns all that is known afterwards, which may not be ``complete``.
    Raises EngineError when memory is too small, the engine fails, or nothing is known because other programs disturbed
    every pass.
    """
    known = None if again else cached(host, machine, engine)
    if known is not None and complete(known, weight_types):
        return known
    question = {
        "weight_types": list(weight_types),
        "threads": thread_counts(machine.cpu),
        "working_set_bytes": working_set_bytes(machine.memory.available_bytes, machine.cpu.last_cache_bytes),
        "device": None,
        "budget_s": budget_s or (QUICK_S if set(weight_types) <= set(USUAL_TYPES) else BUDGET_S),
    }
    new = _asked(host, question, deadline_s, KERNELS)
    found = new if known is None else _joined(known, new)
    if not found.matrices:
        raise EngineError(
            f"{KERNELS} can't be measured: other programs keep the processor busy",
            hint="llmctl doctor --measure",
        )
    cache.write(SUBJECT, _key(machine, engine), asdict(found))
    return found


def measure_device(host: Host, card: Accelerator, engine: EngineInfo, *, again: bool = False) -> Kernels:
    """The matrix kernels of a GPU that the engine can use, for all weight types that it has kernels for; measured in a
    child process and remembered. Raises EngineError."""
    assert card.engine_device is not None, "the engine lists it"
    known = None if again else cached_device(host, card, engine)
    if known is not None:
        return known
    free_bytes = card.memory_free_bytes or 0
    if free_bytes < 2 * DEVICE_SET_BYTES:
        raise EngineError(
            f"{card.name} can't be measured: that takes {2 * DEVICE_SET_BYTES:,} bytes of its memory, "
            f"{free_bytes:,} are free"
        )
    question = {
        "weight_types": WEIGHT_TYPES,
        "threads": [],
        "working_set_bytes": DEVICE_SET_BYTES,
        "device": card.engine_device,
        "budget_s": DEVICE_BUDGET_S,
    }
    found = _asked(host, question, DEVICE_DEADLINE_S, card.name)
    if not found.matrices:
        raise EngineError(f"{card.name} can't be measured: the engine has no kernels for it", hint="llmctl doctor")
    cache.write(SUBJECT, _device_key(card, engine), asdict(found))
    return found


def cached_device(host: Host, card: Accelerator, engine: EngineInfo) -> Kernels | None:
    """What was measured earlier of this card with this build; None if nothing was."""
    return _remembered(host, _device_key(card, engine))


def _remembered(host: Host, key: tuple[object, ...]) -> Kernels | None:
    value = cache.read(SUBJECT, key) if host.live else None
    try:
        return None if value is None else decode(Kernels, value, SUBJECT)
    except MismatchError:
        return None  # written by another version of ours


def _asked(host: Host, question: Mapping[str, Any], deadline_s: float, what: str) -> Kernels:
    reply = host.ask("llmctl.engine.microbench", question, deadline_s=deadline_s)
    if reply.data is None:
        raise EngineError(f"{what} can't be measured: the engine {reply.why}", hint="llmctl doctor")
    try:
        return decode(Kernels, reply.data, SUBJECT)
    except MismatchError as error:
        raise EngineError(f"{what} can't be measured: {error}", hint="llmctl doctor") from error


def thread_counts(cpu: Cpu) -> tuple[int, ...]:
    """Numbers of threads worth trying, the usual one first: all usable cores, the fast ones, three quarters and half of
    them. More than there are cores slow llama.cpp down, as its threads wait for each other at every layer."""
    usable = cpu.usable_threads
    fewer = {min(usable, cpu.performance_cores or usable), usable * 3 // 4, usable // 2} - {0, usable}
    return (usable, *sorted(fewer, reverse=True))


def working_set_bytes(available_bytes: int, last_cache_bytes: int | None) -> int:
    """Bytes to stream per pass: beyond the last cache, yet a small share of the memory that is free.

    Raises EngineError when there is no such size.
    """
    last_cache = last_cache_bytes or 0
    wanted = min(max(WORKING_SET_BYTES, BEYOND_CACHE * last_cache), LARGEST_SET_BYTES)
    size = min(wanted, available_bytes // SHARE_OF_AVAILABLE)
    least = max(SMALLEST_SET_BYTES, BARELY_BEYOND_CACHE * last_cache if last_cache < LARGEST_SET_BYTES // 4 else 0)
    if size < least:
        raise EngineError(
            f"{KERNELS} can't be measured: that takes {least * SHARE_OF_AVAILABLE:,} bytes of free memory, "
            f"there are {available_bytes:,}"
        )
    return size


def _joined(known: Kernels, new: Kernels) -> Kernels:
    """Both; what was measured twice as it was the second time."""
    rows: dict[tuple[str, bool, int], MatrixRate] = {
        (rate.weight_type, rate.repacked, rate.threads): rate for rate in (*known.matrices, *new.matrices)
    }
    return Kernels(
        tuple(rows.values()),
        new.experts or known.experts,
        new.attention or known.attention,
        new.overheads or known.overheads,
    )


def _device_key(card: Accelerator, engine: EngineInfo) -> tuple[object, ...]:
    return (card.engine_device, card.name, card.id, card.driver, engine.name, engine.version, engine.build)


def _key(machine: Machine, engine: EngineInfo) -> tuple[object, ...]:
    return (machine.cpu.name, machine.cpu.usable_threads, engine.name, engine.version, engine.build, *engine.features)
