"""AMD GPUs, as the kernel lists them."""

from __future__ import annotations

from llmctl.host import Host
from llmctl.probe.drm import drm
from llmctl.types.machine import Accelerator, Memory


def amd(host: Host, memory: Memory) -> tuple[tuple[Accelerator, ...], tuple[str, ...]]:
    """The GPUs and notes on what could not be learnt."""
    return tuple(card for card in drm(host) if card.vendor == "AMD"), ()
