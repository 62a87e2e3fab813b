"""Apple silicon."""

from __future__ import annotations

from llmctl.host import Host
from llmctl.types.machine import Accelerator, Memory


def apple(host: Host, memory: Memory) -> tuple[tuple[Accelerator, ...], tuple[str, ...]]:
    """The GPU of the chip and notes on what could not be learnt."""
    return (), ()
