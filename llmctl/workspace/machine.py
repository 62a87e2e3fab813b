"""This machine, with a word to the person when looking at it takes a while; and one that is only described."""

from __future__ import annotations

from collections.abc import Sequence

from llmctl import paths
from llmctl.engine import devices
from llmctl.engine.measure import kernels
from llmctl.errors import EngineError
from llmctl.host import Host
from llmctl.probe.stopwatch import Stopwatch
from llmctl.types.listener import Listener
from llmctl.types.machine import EngineInfo, Machine


def this_machine(
    listener: Listener,
    *,
    measure: bool = True,
    weight_types: Sequence[str] = (),
    again: bool = False,
    watch: Stopwatch | None = None,
) -> tuple[Machine, tuple[EngineInfo, ...]]:
    """This machine and its engines, with the speed of the engine's kernels as far as it is known.

    ``measure``: the usual kernels, or those of ``weight_types``, are measured unless all of them are known and were not
    disturbed; the listener is told before. ``again``: every kernel is measured, those of GPUs as well. ``watch`` takes
    the times. Raises EngineError where measuring ``again`` fails; otherwise that is a warning.
    """
    host, watch = Host(), watch or Stopwatch()
    machine, engines = devices.this_machine(host, store=paths.hub_cache(), watch=watch)
    usable = devices.startable(engines)
    types = kernels.WEIGHT_TYPES if again else weight_types or kernels.USUAL_TYPES
    if usable is None or not measure or (kernels.complete(machine, types) and not again):
        return machine, engines
    listener.note(_measuring(machine, types, again))
    try:
        with watch.part("kernels"):
            measured = kernels.measure(host, machine, usable, weight_types=types, again=again)
            machine = devices.with_engine(machine, engines, measured)
            cards = machine.accelerators if types == kernels.WEIGHT_TYPES else ()
            for card in cards:
                if card.engine_device:
                    kernels.measure_device(host, card, usable, again=again)
    except EngineError as error:
        if again:
            raise
        listener.warn(error.message)
    return devices.with_known_cards(host, machine, usable), engines


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


def _measuring(machine: Machine, types: Sequence[str], again: bool) -> str:
    if machine.kernels is not None and kernels.uncertain_figures(machine.kernels) and not again:
        return "Measuring again what other programs disturbed of the engine's kernels, a second or two …"
    seconds = "two" if types == kernels.USUAL_TYPES else "five"
    return f"Measuring the engine's kernels, some {seconds} seconds, once per machine …"
