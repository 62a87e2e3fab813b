"""What this machine is. Every part returns what it learnt and notes on what it could not; nothing here raises."""

from __future__ import annotations

from pathlib import Path

from llmctl import paths
from llmctl.errors import ConfigError
from llmctl.host import Host
from llmctl.probe.stopwatch import Stopwatch
from llmctl.types.machine import Accelerator, Machine, Note

PC = frozenset({"x86_64", "amd64", "i386", "i586", "i686", "x86"})  # as Linux and Windows call it


def probe(host: Host, *, store: Path, watch: Stopwatch | None = None) -> Machine:
    """The machine behind ``host``. ``store`` is the folder whose filesystem's free space matters; ``watch`` measures
    the time of each part.

    What only the engine knows (which GPUs it can use, how fast its kernels are) is added by ``engine.devices.machine``.
    """
    from llmctl.probe import cpu, disk, memory, power, system
    from llmctl.probe.described import table
    from llmctl.probe.gpu import amd, apple, intel, merge, nvidia

    watch = watch or Stopwatch()
    with watch.part("cpu"):
        processor, cpu_notes = cpu.cpu(host)
    with watch.part("memory"):
        main, memory_notes = memory.memory(host)
    with watch.part("disk"):
        room, disk_notes = disk.disk(host, store)
    with watch.part("system"):
        place = system.system(host)
        saving = power.power(host)
    cards: tuple[Accelerator, ...] = ()
    notes = cpu_notes + memory_notes + disk_notes
    for vendor, cards_of in (
        ("nvidia", nvidia.nvidia),
        ("amd", amd.amd),
        ("intel", intel.intel),
        ("apple", apple.apple),
    ):
        with watch.part(vendor):
            accelerators, more = cards_of(host, main)
        cards, notes = cards + accelerators, notes + more
    with watch.part("table"):
        devices: tuple[table.Device, ...] = ()
        # a PC without a card has its memory on modules, of which nothing here tells the number
        if cards or place.board or processor.arch.lower() not in PC:
            try:
                devices = table.load(paths.profiles_dir())
            except ConfigError as error:
                notes += (Note(error.message, error.hint),)
        cards, main, more = merge.merge(cards, main, processor, place, devices)
    return Machine(
        memory=main,
        cpu=processor,
        accelerators=cards,
        disk=room,
        os=place.os,
        container=place.container,
        board=place.board,
        virtual_machine=place.virtual_machine,
        notes=notes + more,
        power=saving,
    )
