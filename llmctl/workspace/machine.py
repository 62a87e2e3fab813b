"""This machine, with a word to the person when looking at it takes a while; and one that is only described."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from msgspec.structs import replace

from llmctl import paths
from llmctl.engine.devices import machine as devices
from llmctl.engine.devices import startable
from llmctl.engine.measure import kernels, repeated
from llmctl.errors import EngineError
from llmctl.host import Host
from llmctl.planner.present import share_left
from llmctl.probe import read_rate
from llmctl.probe.load import Moment, load, moment
from llmctl.probe.stopwatch import Stopwatch
from llmctl.types.kernels import Kernels
from llmctl.types.listener import Listener
from llmctl.types.machine import Cpu, EngineInfo, Machine

CHANGED = "The last answers had another speed than the measured kernels tell: measuring them again, some two seconds …"
ONCE_MORE = "Measuring some of the engine's kernels once more: a virtual machine's speed changes. A second …"
WATCHED_S = 0.1  # at least, to find out whether the machine is busy
WORTH_TRYING = 0.67  # of its usual speed: with less there is hardly a pass of a kernel that nothing disturbs


def this_machine(
    listener: Listener,
    *,
    measure: bool = True,
    weight_types: Sequence[str] = (),
    again: bool = False,
    has_changed: bool = False,
    watch: Stopwatch | None = None,
) -> tuple[Machine, tuple[EngineInfo, ...]]:
    """This machine and its engines, with the speed of the engine's kernels as far as it is known.

    ``measure``: the usual kernels, or those of ``weight_types``, are measured unless all of them are known and were not
    disturbed, or the machine is busy and some were tried before; the listener is told before. Those of a virtual
    machine are measured at several times. ``again``: every kernel is measured, those of GPUs as well; ``has_changed``:
    those that are known may be another machine's, so the usual ones are measured again on a quiet machine. ``watch``
    takes the times. Raises EngineError where measuring ``again`` fails; otherwise that is a warning.
    """
    host, watch, before = Host(), watch or Stopwatch(), moment(Host())
    machine, engines = devices.seen(host, store=paths.hub_cache(), watch=watch)
    machine = _with_read_rate(machine)
    engine = startable(engines)
    if engine is None:
        return devices.with_kernels(machine, None), engines
    rates = kernels.cached(host, machine, engine)
    types = kernels.WEIGHT_TYPES if again else weight_types or kernels.USUAL_TYPES
    incomplete = has_changed or not kernels.complete(machine.cpu, rates, types)
    if measure and (again or (incomplete and (rates is None or not _is_busy(machine.cpu, before)))):
        listener.note(CHANGED if has_changed else _measuring(rates, types, again))
        try:
            with watch.part("kernels"):
                rates = kernels.measure(host, machine, engine, weight_types=types, again=again or has_changed)
                if types == kernels.WEIGHT_TYPES:
                    _measure_cards(host, machine, engine, again)
        except EngineError as error:
            if again:
                raise
            listener.warn(error.message)
        with watch.part("disk"):
            read_rate.measure(paths.hub_cache())
            machine = _with_read_rate(machine)
    elif measure and rates is not None and repeated.is_due(machine, rates) and not _is_busy(machine.cpu, before):
        listener.note(ONCE_MORE)
        with watch.part("kernels"), contextlib.suppress(EngineError):  # what is known stays so
            rates = repeated.repeat(host, machine, engine, rates)
    return devices.with_kernels(machine, rates, devices.of_cards(host, machine, engine)), engines


def _with_read_rate(machine: Machine) -> Machine:
    """With what was measured of the disk."""
    if machine.disk is None:
        return machine
    return replace(machine, disk=replace(machine.disk, read_bytes_per_s=read_rate.cached(paths.hub_cache())))


def _is_busy(cpu: Cpu, before: Moment | None) -> bool:
    """Whether other programs would disturb most of a measurement now."""
    if before is None:
        return False
    time.sleep(max(0.0, before.at_s + WATCHED_S - time.monotonic()))
    busy = load(before, moment(Host()))
    return busy is not None and share_left(cpu, busy) < WORTH_TRYING


def _measure_cards(host: Host, machine: Machine, engine: EngineInfo, again: bool) -> None:
    for card in machine.accelerators:
        if card.engine_device:
            kernels.measure_device(host, card, engine, again=again)


def described(
    listener: Listener, name: str | None, *, ram_bytes: int | None, vram_bytes: int | None, gpu: str | None
) -> Machine:
    """The machine of a document (a file, or a name of ``profiles/machines``), this one without a ``name``, with so much
    memory and such a GPU. Raises NotFoundError, ConfigError and UsageError."""
    from llmctl.probe.described import table, what_if
    from llmctl.probe.described.document import read_machine

    profiles = paths.profiles_dir()
    machine = this_machine(listener)[0] if name is None else read_machine(name, profiles / "machines")
    if ram_bytes is None and vram_bytes is None and gpu is None:
        return machine
    return what_if.changed(machine, table.load(profiles), gpu=gpu, ram_bytes=ram_bytes, vram_bytes=vram_bytes)


def _measuring(rates: Kernels | None, types: Sequence[str], again: bool) -> str:
    if rates is not None and kernels.uncertain_figures(rates) and not again:
        return "Measuring again what other programs disturbed of the engine's kernels, a second or two …"
    seconds = "two" if types == kernels.USUAL_TYPES else "five"
    return f"Measuring the engine's kernels, some {seconds} seconds, once per machine …"
