"""Plans for a browser's tab: less memory, slower kernels, no GPU."""

from __future__ import annotations

import pytest

from llmctl import paths
from llmctl.catalogue.browser_tab import load_browser_tab
from llmctl.planner.browser_tab import tab_machine
from llmctl.types.browser_tab import BrowserTab, TabMeasurement
from llmctl.types.kernels import Kernels, MatrixRate, NodeRate
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, Machine, Memory

GB = 10**9
TAB = BrowserTab(4 * GB, 2 * GB, tuple(TabMeasurement("m", "Q8_0", 2, 100.0, rate, "s") for rate in (10.0, 20.0, 30.0)))
CPU = Cpu("processor", "x86_64", 4, 8, 4, ("AVX2",))
CARD = Accelerator("0", "card", "vendor", AcceleratorKind.DISCRETE, 8 * GB, 8 * GB)


@pytest.mark.parametrize(("free_bytes", "left_bytes"), [(3 * GB, 3 * GB), (20 * GB, 4 * GB)])
def test_memory(free_bytes: int, left_bytes: int) -> None:
    machine = tab_machine(Machine(Memory(32 * GB, free_bytes, bandwidth_bytes_per_s=50.0), CPU, (CARD,)), TAB)
    assert (machine.memory.available_bytes, machine.memory.total_bytes) == (left_bytes, 4 * GB)
    assert machine.memory.bandwidth_bytes_per_s == pytest.approx(10.0)
    assert (machine.accelerators, machine.cpu.features, machine.kernels) == ((), (), None)


def test_kernels_are_slower_by_the_median_ratio() -> None:
    kernels = Kernels((MatrixRate("Q8_0", False, 4, 1000.0, 2000.0),), overheads=(NodeRate(4, 300.0, 400.0),))
    machine = tab_machine(Machine(Memory(32 * GB, 20 * GB), CPU, kernels=kernels), TAB)
    assert machine.kernels == Kernels(
        (MatrixRate("Q8_0", False, 4, 200.0, 400.0),), overheads=(NodeRate(4, 60.0, 80.0),)
    )


def test_what_ships_is_sound() -> None:
    tab = load_browser_tab(paths.profiles_dir())
    assert tab.part_bytes < 1 << 31 <= tab.memory_bytes and 0.02 < tab.speed_ratio < 1
