"""This machine, with a word to the person when looking at it takes a while."""

from __future__ import annotations

from llmctl import paths
from llmctl.cli.output import Output
from llmctl.engine import devices, kernels
from llmctl.errors import EngineError
from llmctl.host import Host
from llmctl.probe.stopwatch import Stopwatch
from llmctl.types.machine import EngineInfo, Machine


def this_machine(
    out: Output,
    *,
    measure: bool = True,
    thorough: bool = False,
    again: bool = False,
    watch: Stopwatch | None = None,
) -> tuple[Machine, tuple[EngineInfo, ...]]:
    """This machine and its engines, the speed of the engine's kernels included.

    With ``measure`` that is measured, and told on stderr, when nothing is known of it yet; with ``thorough`` also when
    it is incomplete because the machine was busy then; with ``again`` in any case, and then failing is an EngineError.
    """
    host, watch = Host(), watch or Stopwatch()
    machine, engines = devices.this_machine(host, store=paths.hub_cache(), watch=watch)
    usable = devices.startable(engines)
    known = kernels.complete(machine.kernels) if thorough else machine.kernels is not None
    if usable is None or not measure or (known and not again):
        return machine, engines
    out.note("Measuring the engine's kernels, some five seconds, once per machine …")
    try:
        with watch.part("kernels"):
            rates = kernels.measure(host, machine, usable, again=again)
        return devices.with_engine(machine, engines, rates), engines
    except EngineError as error:
        if again:
            raise
        out.warn(error.message)
        return machine, engines
