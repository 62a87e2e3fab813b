"""A browser's tab as a machine to plan for: the processor by slower kernels, and the memory of WebAssembly."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from llmctl.struct import names_of
from llmctl.types.browser_tab import BrowserTab
from llmctl.types.kernels import Kernels
from llmctl.types.machine import Machine


def tab_machine(machine: Machine, tab: BrowserTab) -> Machine:
    """A tab of a browser on ``machine``. Its kernels use no instruction set of the processor's own, so that weights are
    never repacked, and no GPU: WebGPU has not been measured."""
    memory = machine.memory
    bandwidth = memory.bandwidth_bytes_per_s
    return replace(
        machine,
        memory=replace(
            memory,
            total_bytes=min(memory.total_bytes, tab.memory_bytes),
            available_bytes=min(memory.available_bytes, tab.memory_bytes),
            limit_bytes=tab.memory_bytes,
            limit_source="WebAssembly",
            bandwidth_bytes_per_s=None if bandwidth is None else bandwidth * tab.speed_ratio,
        ),
        cpu=replace(machine.cpu, features=()),
        accelerators=(),
        kernels=None if machine.kernels is None else _slower(machine.kernels, tab.speed_ratio),
    )


def _slower(kernels: Kernels, ratio: float) -> Kernels:
    rows = {
        name: tuple(_scaled(row, ratio) for row in getattr(kernels, name))
        for name in ("matrices", "experts", "attention", "overheads", "batches")
    }
    return replace(kernels, **rows)


def _scaled(row: Struct, ratio: float) -> Struct:
    """With all of its rates times ``ratio``."""
    rates = [name for name in names_of(row) or () if name.endswith("_per_s")]
    return replace(row, **{name: getattr(row, name) * ratio for name in rates})
