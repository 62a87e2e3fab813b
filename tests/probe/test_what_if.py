"""Other memory, another GPU."""

from __future__ import annotations

import pytest

from llmctl import paths
from llmctl.errors import UsageError
from llmctl.probe.described import table
from llmctl.probe.described.document import read_machine
from llmctl.probe.described.what_if import changed
from llmctl.types.machine import Machine

GIB = 1 << 30
DEVICES = table.load(paths.profiles_dir())


def named(name: str) -> Machine:
    return read_machine(name, paths.profiles_dir() / "machines")


def test_other_memory_and_as_much_of_it_taken() -> None:
    was = named("laptop-16gb")
    memory = changed(was, DEVICES, ram_bytes=32 * GIB).memory
    assert memory.total_bytes - memory.available_bytes == was.memory.total_bytes - was.memory.available_bytes
    assert memory.total_bytes == 32 * GIB and memory.bandwidth_bytes_per_s == was.memory.bandwidth_bytes_per_s
    assert changed(was, DEVICES, ram_bytes=GIB).memory.available_bytes == 0


def test_a_gpu_without_memory_of_its_own_has_its_share_of_the_new() -> None:
    was, now = named("macbook-air-m2-16gb"), changed(named("macbook-air-m2-16gb"), DEVICES, ram_bytes=64 * GIB)
    assert (now.accelerators[0].memory_total_bytes or 0) > 2 * (was.accelerators[0].memory_total_bytes or 0)
    assert now.accelerators[0].usable


def test_another_gpu() -> None:
    now = changed(named("desktop-rtx-3060"), DEVICES, gpu="GeForce RTX 5090")
    (card,) = now.accelerators
    assert (card.memory_total_bytes, card.memory_free_bytes, card.usable) == (32 * GIB, 32 * GIB, True)
    assert changed(now, DEVICES, gpu="none").accelerators == ()
    own = changed(named("laptop-16gb"), DEVICES, gpu="Some card", vram_bytes=20 * GIB).accelerators[0]
    assert (own.memory_total_bytes, own.memory_free_bytes) == (20 * GIB, 20 * GIB)


def test_other_memory_on_its_gpu() -> None:
    (card,) = changed(named("desktop-rtx-3060"), DEVICES, vram_bytes=24 * GIB).accelerators
    assert (card.memory_total_bytes, card.memory_free_bytes) == (24 * GIB, 24 * GIB)
    assert card.bandwidth_bytes_per_s == named("desktop-rtx-3060").accelerators[0].bandwidth_bytes_per_s


def test_a_larger_share_of_the_machines_memory_is_no_more_memory() -> None:
    mac = named("macbook-air-m1-8gb")
    (card,) = changed(mac, DEVICES, vram_bytes=8 * GIB).accelerators
    assert card.memory_total_bytes == card.shared_bytes == 8 * GIB
    assert card.memory_free_bytes == mac.memory.available_bytes < 8 * GIB
    (card,) = changed(mac, DEVICES, ram_bytes=64 * GIB, vram_bytes=48 * GIB).accelerators
    assert card.memory_total_bytes == card.memory_free_bytes == card.shared_bytes == 48 * GIB
    with pytest.raises(UsageError, match=r"Apple M1 shares the machine's memory of 8\.6 GB, it can't have 17\.2 GB"):
        changed(mac, DEVICES, vram_bytes=16 * GIB)


def test_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="--vram needs a GPU"):
        changed(named("laptop-16gb"), DEVICES, vram_bytes=GIB)
    with pytest.raises(UsageError, match='has no "RTX 409"; it knows "GeForce RTX 4090"'):
        changed(named("laptop-16gb"), DEVICES, gpu="RTX 409")


@pytest.mark.parametrize("name", ["vm-epyc-24gb", "strix-halo-128gb", "desktop-rtx-4090"])
def test_nothing_asked_changes_nothing(name: str) -> None:
    assert changed(named(name), DEVICES) == named(name)
