"""What speed is left while other programs compute."""

from __future__ import annotations

from llmctl.types.load import Load
from llmctl.types.machine import Cpu


def share_left(cpu: Cpu, load: Load) -> float:
    """The share of its usual speed at which a model is computed on the processor while ``load`` stays, 0 to 1.

    llama.cpp's threads wait for each other at every layer, so the slowest decides: the one that shares its core with
    what has no core of its own. While programs wait for memory to be freed, it is taken to wait as well.
    """
    beyond = cpu.usable_threads + load.other_cores + load.stolen_cores - cpu.physical_cores
    return (1 - load.short_of_memory) / (1 + max(0.0, beyond))
