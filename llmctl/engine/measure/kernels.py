"""Measures the rates of the engine's kernels on this machine, and caches them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

from msgspec.structs import replace

from llmctl import units
from llmctl.engine.measure import times
from llmctl.errors import EngineError
from llmctl.files import measured_cache
from llmctl.files.decode import FieldError, decode
from llmctl.host import Host
from llmctl.planner import kernel_rows
from llmctl.struct import asdict
from llmctl.types.kernels import Kernels
from llmctl.types.machine import Accelerator, Cpu, EngineInfo, Machine
from llmctl.types.past import PastRun

SUBJECT = "kernels"
# Fields that tell rows apart.
IDENTITY = frozenset({"weight_type", "repacked", "columns", "kv_type", "flash", "threads"})
METHOD = 3  # version of the method of measuring: rates of an earlier one are not read
KERNELS = "the engine's kernels"
USUAL_TYPES = ("Q4_K", "Q6_K", "Q8_0", "Q4_0", "Q5_K", "F16", "Q4_1")  # the last one is the starter's
WEIGHT_TYPES = (
    *(*USUAL_TYPES, "Q5_0", "MXFP4", "IQ4_NL", "IQ4_XS", "Q3_K", "Q2_K", "BF16", "Q5_1", "IQ3_S", "IQ3_XXS"),
)
QUICK_S = 1.6  # for the usual types; twice that while other programs disturb it, and a second to begin
BUDGET_S = 4.0  # for all of them, likewise
COMPLETING_S = 0.8  # at most, for what was disturbed the last time: every command tries until it is measured
DEADLINE_S = 30.0  # a small board takes its time to import the engine and to fill the working set
AGREEING_RUNS = 5  # undisturbed ones, for it to be said that the machine has changed
SLOWER = 0.75  # than was predicted, or faster by as much: no kind of model is that far off
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
    return _from_cache(host, key_of(machine, engine))


def complete(cpu: Cpu, kernels: Kernels | None, weight_types: Sequence[str] = USUAL_TYPES) -> bool:
    """Whether all kernels were measured undisturbed on ``cpu``; on a busy machine that takes several tries."""
    if kernels is None or uncertain_figures(kernels):
        return False
    usable, counts = cpu.usable_threads, set(thread_counts(cpu))
    with_all = {rate.weight_type for rate in kernels.matrices if rate.threads == usable}
    rest = all(
        any(rate.threads == usable for rate in rates)
        for rates in (kernels.experts, kernels.attention, kernels.overheads, kernels.batches)
    )
    return rest and with_all.issuperset(weight_types) and counts <= {rate.threads for rate in kernels.matrices}


def uncertain_figures(kernels: Kernels) -> int:
    """How many figures have no undisturbed pass."""
    return figures(kernels) - len(kernel_rows.measured(kernels).certain)


def figures(kernels: Kernels) -> int:
    """The number of figures in all rows."""
    rows = (row for group in kernel_rows.ROWS for row in getattr(kernels, group))
    return sum(len(kernel_rows.rates_of(type(row))) for row in rows)


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
    """The kernels' rates: from the cache if they are complete there, else measured in a child process and cached.

    ``weight_types`` are to be measured at least, ``again`` even if they are cached. Decoding is matrix x vector over a
    working set beyond the last cache, prefill is matrix x 512 columns; see ``matmul`` and ``attention``. The result has
    the faster of cached and new rates, only the new ones if all was measured ``again`` undisturbed; it may not be
    ``complete``. Raises EngineError when memory is too small, the engine fails, or other programs disturbed every pass.
    """
    earlier = cached(host, machine, engine)
    if earlier is not None and not again and complete(machine.cpu, earlier, weight_types):
        return earlier
    certain = [] if again or earlier is None else _certain_rows(earlier)
    question = question_of(machine, weight_types, certain, budget_s or _budget_s(weight_types, certain))
    if earlier is None:  # what fails now is tried again when the machine is quiet, and not by every command
        measured_cache.write(SUBJECT, key_of(machine, engine), asdict(Kernels(())))
    new = asked(host, question, deadline_s, KERNELS)
    instead = earlier is None or (again and complete(machine.cpu, new, weight_types))
    before = Kernels(()) if instead or earlier is None else earlier
    together = kernel_rows.joined(before, new)
    if not any(rate > 0 for rates in kernel_rows.measured(together) for rate in rates.values()):
        raise EngineError(
            f"{KERNELS} can't be measured: other programs keep the processor busy",
            hint="llmctl doctor --measure",
        )
    is_whole = complete(machine.cpu, together, weight_types)
    date = now()
    together = replace(
        together,
        load=None if is_whole else new.load,
        date=before.date or date,
        times=times.with_time(before, new, together, date),
    )
    measured_cache.write(SUBJECT, key_of(machine, engine), asdict(together))
    return together


def changed(kernels: Kernels | None, past: Sequence[PastRun]) -> float | None:
    """How many times as fast as ``kernels`` tell the last runs were, where all of them say that the machine isn't the
    one that was measured any more: another host under the virtual machine, another power limit. None where they
    don't."""
    if kernels is None or kernels.date is None:
        return None
    since = [run for run in past if run.date > kernels.date and not run.modelled and not run.gpu_layers]
    factors = [run.decode for run in since if run.decode is not None][-AGREEING_RUNS:]
    if len(factors) < AGREEING_RUNS or not (max(factors) < SLOWER or min(factors) > 1 / SLOWER):
        return None
    return median(factors)


def question_of(
    machine: Machine, weight_types: Sequence[str], already_measured: Sequence[object], budget_s: float
) -> dict[str, object]:
    """What ``microbench.measure`` is asked about the processor. Raises EngineError where memory is too small."""
    return {
        "weight_types": list(weight_types),
        "threads": thread_counts(machine.cpu),
        "working_set_bytes": working_set_bytes(machine.memory.available_bytes, machine.cpu.last_cache_bytes),
        "device": None,
        "budget_s": budget_s,
        "already_measured": already_measured,
    }


def now() -> str:
    """UTC in ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _budget_s(weight_types: Sequence[str], certain: Sequence[object]) -> float:
    whole_s = QUICK_S if set(weight_types) <= set(USUAL_TYPES) else BUDGET_S
    return min(whole_s, COMPLETING_S) if certain else whole_s


def _certain_rows(kernels: Kernels) -> list[dict[str, object]]:
    """The rows that need not be measured again, as ``microbench.measure`` takes them."""
    groups = {group: getattr(kernels, group) for group in kernel_rows.ROWS}
    return [identity(group, row) for group, rows in groups.items() for row in rows if not row.uncertain]


def identity(group: str, row: kernel_rows.Row) -> dict[str, object]:
    """What tells a row from others, as ``microbench.measure`` takes it."""
    return {"group": group, **{name: value for name, value in asdict(row).items() if name in IDENTITY}}


def measure_device(host: Host, card: Accelerator, engine: EngineInfo, *, again: bool = False) -> Kernels:
    """The rates of a GPU's matrix kernels, for all weight types that it has kernels for: measured in a child process
    and cached. Raises EngineError."""
    assert card.engine_device is not None, "the engine lists it"
    earlier = None if again else cached_device(host, card, engine)
    if earlier is not None:
        return earlier
    free_bytes = card.memory_free_bytes or 0
    if free_bytes < 2 * DEVICE_SET_BYTES:
        raise EngineError(
            f"{card.name} can't be measured: that takes {units.size(2 * DEVICE_SET_BYTES)} of its memory, "
            f"{units.size(free_bytes)} is free"
        )
    question = {
        "weight_types": WEIGHT_TYPES,
        "threads": [],
        "working_set_bytes": DEVICE_SET_BYTES,
        "device": card.engine_device,
        "budget_s": DEVICE_BUDGET_S,
    }
    measured = asked(host, question, DEVICE_DEADLINE_S, card.name)
    if not measured.matrices:
        raise EngineError(f"{card.name} can't be measured: the engine has no kernels for it", hint="llmctl doctor")
    measured_cache.write(SUBJECT, _device_key(card, engine), asdict(measured))
    return measured


def cached_device(host: Host, card: Accelerator, engine: EngineInfo) -> Kernels | None:
    """The rates measured earlier of this card with this build of the engine; None if there are none."""
    return _from_cache(host, _device_key(card, engine))


def _from_cache(host: Host, key: tuple[object, ...]) -> Kernels | None:
    value = measured_cache.read(SUBJECT, key) if host.live else None
    try:
        return None if value is None else decode(Kernels, value, SUBJECT)
    except FieldError:
        return None  # written by another version of llmctl


def asked(host: Host, question: Mapping[str, Any], deadline_s: float, what: str) -> Kernels:
    """What the child process measured. Raises EngineError."""
    reply = host.ask("llmctl.engine.measure.microbench", question, deadline_s=deadline_s)
    if reply.data is None:
        raise EngineError(f"{what} can't be measured: the engine {reply.why}", hint="llmctl doctor")
    try:
        return decode(Kernels, reply.data, SUBJECT)
    except FieldError as error:
        raise EngineError(f"{what} can't be measured: {error}", hint="llmctl doctor") from error


def thread_counts(cpu: Cpu) -> tuple[int, ...]:
    """Numbers of threads to try: all usable cores first, then the fast ones, three quarters and half. More threads than
    cores slow llama.cpp down, as they wait for each other at every layer."""
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
            f"{KERNELS} can't be measured: that takes {units.size(least * SHARE_OF_AVAILABLE)} of free memory, "
            f"{units.size(available_bytes)} is free"
        )
    return size


def _device_key(card: Accelerator, engine: EngineInfo) -> tuple[object, ...]:
    return (card.engine_device, card.name, card.id, card.driver, engine.name, engine.version, engine.build)


def key_of(machine: Machine, engine: EngineInfo) -> tuple[object, ...]:
    """What the rates of this machine are cached by: they change with the processor, with what it is supplied with, and
    with the engine's build."""
    cpu, power = machine.cpu, machine.power
    slowed = () if power is None else ("on battery" if power.on_battery else "on mains", power.saving or "")
    return (METHOD, cpu.name, cpu.usable_threads, engine.name, engine.version, engine.build, *engine.features, *slowed)
