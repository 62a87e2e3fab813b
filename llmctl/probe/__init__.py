"""What this machine is. Every part returns what it learnt and notes on what it could not; nothing here raises."""

from __future__ import annotations

from pathlib import Path

from llmctl.host import Host
from llmctl.types.machine import Machine


def probe(host: Host, *, store: Path) -> Machine:
    """The machine below ``host.root``: ``store`` says which filesystem's free space matters.

    What only the engine knows (which GPUs it can use, how fast its kernels are) is added by ``engine.devices``.
    """
    from llmctl.probe import cpu, disk, drm, memory, nvidia, system

    processor, cpu_notes = cpu.cpu(host)
    main, memory_notes = memory.memory(host)
    room, disk_notes = disk.disk(host, store)
    cards, nvidia_notes = nvidia.nvidia(host)
    named = {card.id for card in cards}
    # a card that CUDA_VISIBLE_DEVICES hides must not come back through the kernel's list
    hidden = "NVIDIA" if cards or "CUDA_VISIBLE_DEVICES" in host.environ else None
    others = tuple(card for card in drm.drm(host) if card.id not in named and card.vendor != hidden)
    return Machine(
        memory=main,
        cpu=processor,
        accelerators=cards + others,
        disk=room,
        os=system.os_name(host),
        container=system.container(host),
        notes=cpu_notes + memory_notes + disk_notes + nvidia_notes,
    )
