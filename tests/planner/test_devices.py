"""Which devices are used, and what of their memory is the machine's."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmctl.planner.devices import borrowed_bytes, devices
from llmctl.types.machine import Accelerator, AcceleratorKind
from tests.planner.machines import GIB, LAPTOP, desktop, mac


@pytest.mark.parametrize(
    ("kind", "total", "free", "shared", "needed", "borrowed"),
    [
        (AcceleratorKind.DISCRETE, 12, 11, None, 5, 0),
        (AcceleratorKind.DISCRETE, 12, 11, 0, 5, 0),
        (AcceleratorKind.UNIFIED, 48, 40, None, 5, 5),
        (AcceleratorKind.UNIFIED, 48, 40, 48, 5, 5),
        (AcceleratorKind.INTEGRATED, None, None, None, 5, 5),
        # an APU: 4 of its own, 16 of the machine's
        (AcceleratorKind.INTEGRATED, 20, 18, 16, 3, 0),
        (AcceleratorKind.INTEGRATED, 20, 18, 16, 10, 6),
        (AcceleratorKind.INTEGRATED, 20, 2, 16, 10, 8),
    ],
)
def test_what_a_device_borrows_from_the_machine(
    kind: AcceleratorKind,
    total: int | None,
    free: int | None,
    shared: int | None,
    needed: int,
    borrowed: int,
) -> None:
    card = Accelerator("0", "GPU", "AMD", kind, total, free, shared_bytes=shared)
    assert borrowed_bytes(card, needed) == borrowed


def test_an_integrated_gpu_is_not_used_beside_a_card() -> None:
    integrated = replace(mac().accelerators[0], id="igpu", kind=AcceleratorKind.INTEGRATED, memory_free_bytes=60 * GIB)
    both = replace(desktop(), accelerators=(integrated, *desktop().accelerators))
    assert [device.id for device in devices(both)] == ["cuda0"]
    two = replace(LAPTOP, accelerators=(replace(integrated, id="small", memory_free_bytes=GIB), integrated))
    assert [device.id for device in devices(two)] == ["igpu"]
