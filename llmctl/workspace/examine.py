"""What ``llmctl doctor`` tells: the machine, the engines, and what to mend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from llmctl import paths
from llmctl.checks import blocking, checks, machine_checks
from llmctl.errors import LlmctlError
from llmctl.probe.stopwatch import Stopwatch
from llmctl.types.finding import Check
from llmctl.types.listener import Listener
from llmctl.types.machine import EngineInfo, Machine, Network
from llmctl.types.model import Source, SourceKind


class Report(Struct, frozen=True):
    """``findings`` are in the order in which a person would mend things. ``parts_s`` says how long each part of the
    look took, None for a described machine: nothing of it was looked at."""

    machine: Machine
    engines: Sequence[EngineInfo]
    findings: Sequence[Check]
    parts_s: dict[str, float] | None = None

    def error(self, *, strict: bool) -> LlmctlError | None:
        """What the first failed check stands for; with ``strict`` warnings count. None on a healthy machine."""
        return blocking(self.findings, strict=strict)


def examine(listener: Listener, *, measure: bool = False, network: bool = False) -> Report:
    """This machine. ``measure``: the engine's kernels are measured again; ``network``: the hub is asked, and a sample
    fetched. Raises EngineError where measuring fails."""
    from llmctl.checks.surroundings import around
    from llmctl.engine.measure.kernels import USUAL_TYPES
    from llmctl.workspace.machine import this_machine

    watch = Stopwatch()
    machine, engines = this_machine(listener, weight_types=USUAL_TYPES, again=measure, watch=watch)
    reach = None
    if network:
        from llmctl.hub.reachability import reach as ask_hub
        from llmctl.workspace import situation

        listener.note("Asking the model hub, and fetching a sample for two seconds …")
        with watch.part("network"):
            shelf = situation.shelf(listener)
            reach = ask_hub(shelf.settings, _sample([each.artifact.source for each in shelf.candidates(None)]))
        machine = replace(machine, network=Network(reach.wrong is None, reach.bytes_per_s))
    with watch.part("surroundings"):
        surroundings = around(reach)
    return Report(machine, engines, checks(machine, engines, surroundings), watch.parts)


def examine_described(name: str) -> Report:
    """A machine that is described by a document, or by one of ``profiles/machines``. Raises NotFoundError and
    ConfigError."""
    from llmctl.probe.described.document import read_machine

    machine = read_machine(name, paths.profiles_dir() / "machines")
    return Report(machine, (), machine_checks(machine))


def capture(folder: Path) -> None:
    """Writes this machine into a new ``folder``, without serial numbers, uuids, host and user names. Raises what
    ``checks.capture`` raises."""
    from llmctl.checks.capture import capture as write

    write(folder, paths.hub_cache())


def _sample(sources: Sequence[Source]) -> Source | None:
    """The smallest file that is large enough to time."""
    from llmctl.hub.reachability import SAMPLE_BYTES

    files = [each for each in sources if each.kind is SourceKind.HUB and (each.bytes or 0) >= SAMPLE_BYTES]
    return min(files, key=lambda each: each.bytes or 0, default=None)
