"""How fast the engine's own matrix kernels are on this machine: measured once, then remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from llmctl.engine import cache
from llmctl.errors import EngineError
from llmctl.host import Host
from llmctl.probe.decode import MismatchError, decode
from llmctl.types.machine import EngineInfo, KernelRate, Machine

SUBJECT = "kernels"
WEIGHT_TYPES = ("Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "F16")
BUDGET_S = 1.8
DEADLINE_S = 20.0  # a small board takes its time to import the engine and to fill the working set
WORKING_SET_BYTES = 256 << 20
LARGEST_SET_BYTES = 2 << 30
SMALLEST_SET_BYTES = 64 << 20  # holds a matrix of every type
BEYOND_CACHE = 4  # times the last cache, so that at most a quarter of a pass could come from it
BARELY_BEYOND_CACHE = 2
SHARE_OF_AVAILABLE = 6  # there may be two buffers of that size, and this is a measurement, not the main job


def cached(host: Host, machine: Machine, engine: EngineInfo) -> tuple[KernelRate, ...] | None:
    """The rates measured earlier for this processor, number of threads and engine build; None if there are none."""
    if not host.live:
        return None
    value = cache.read(SUBJECT, _key(machine, engine))
    try:
        rates = tuple(decode(KernelRate, rate, "rate") for rate in value) if isinstance(value, list) else ()
    except MismatchError:
        return None
    return rates or None


def complete(rates: Sequence[KernelRate] | None) -> bool:
    """Whether every weight type has been measured. On a busy machine that can take more than one attempt."""
    return {rate.weight_type for rate in rates or ()} >= set(WEIGHT_TYPES)


def measure(
    host: Host,
    machine: Machine,
    engine: EngineInfo,
    *,
    again: bool = False,
    budget_s: float = BUDGET_S,
    deadline_s: float = DEADLINE_S,
) -> tuple[KernelRate, ...]:
    """Measures in a child process what was not measured yet (everything if ``again``), and remembers it.

    Decoding is matrix x vector over a working set beyond the last cache, prefill is matrix x 512 columns; see
    ``matmul`` for the method. Returns all rates known afterwards, which may not be ``complete``. Raises EngineError
    when memory is too small, the engine fails, or nothing is known because other programs disturbed every pass.
    """
    known = {} if again else {rate.weight_type: rate for rate in cached(host, machine, engine) or ()}
    missing = [name for name in WEIGHT_TYPES if name not in known]
    if not missing:
        return tuple(known.values())
    question = {
        "weight_types": missing,
        "threads": machine.cpu.usable_threads,
        "working_set_bytes": working_set_bytes(machine.memory.available_bytes, machine.cpu.last_cache_bytes),
        "budget_s": budget_s * len(missing) / len(WEIGHT_TYPES),
    }
    reply = host.ask("llmctl.engine.matmul", question, deadline_s=deadline_s)
    if reply.data is None:
        raise EngineError(f"the engine's kernels can't be measured: the engine {reply.why}", hint="llmctl doctor")
    try:
        new = [decode(KernelRate, rate, "rate") for rate in reply.data["rates"]]
    except (MismatchError, TypeError, KeyError) as error:
        raise EngineError(f"the engine's kernels can't be measured: {error}", hint="llmctl doctor") from error
    known |= {rate.weight_type: rate for rate in new}
    if not known:
        raise EngineError(
            "the engine's kernels can't be measured: other programs keep the processor busy",
            hint="llmctl doctor --measure",
        )
    rates = tuple(known[name] for name in WEIGHT_TYPES if name in known)
    if new:
        cache.write(SUBJECT, _key(machine, engine), [asdict(rate) for rate in rates])
    return rates


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
            f"the engine's kernels can't be measured: that takes {least * SHARE_OF_AVAILABLE:,} bytes of free memory, "
            f"there are {available_bytes:,}"
        )
    return size


def _key(machine: Machine, engine: EngineInfo) -> tuple[object, ...]:
    return (machine.cpu.name, machine.cpu.usable_threads, engine.name, engine.version, engine.build, *engine.features)
