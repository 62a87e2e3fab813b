"""Intel GPUs from sysfs: which are cards, and what little the kernel tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from llmctl.host import Host
from llmctl.probe.gpu.intel import intel
from llmctl.types.machine import Accelerator, Memory, Note

CARD = "sys/class/drm/card0"
DEVICE = f"{CARD}/device"
GIB = 1 << 30
B580 = {
    f"{DEVICE}/vendor": "0x8086\n",
    f"{DEVICE}/uevent": "DRIVER=xe\nPCI_CLASS=30000\nPCI_ID=8086:E20B\nPCI_SLOT_NAME=0000:03:00.0\n",
}
IDS = "8086  Intel Corporation\n\t7d1d  Meteor Lake NPU\n\te20b  Battlemage G21 [Arc B580]\n"


def tree(root: Path, files: Mapping[str, str | int]) -> Host:
    for name, text in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n" if isinstance(text, int) else text)
    return Host(root=root, environ={}, system="linux")


def one(host: Host) -> Accelerator:
    (card,), _ = intel(host, Memory(64 * GIB, 32 * GIB))
    return card


def at(address: str) -> dict[str, str]:
    return {f"{DEVICE}/uevent": f"DRIVER=i915\nPCI_ID=8086:4692\nPCI_SLOT_NAME={address}\n"}


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({}, "discrete"),
        (at("0000:00:02.0"), "integrated"),
        (at("0000:00:02.1"), "integrated"),  # a part of it, shared out to virtual machines
        (at("0000:00:05.0"), "discrete"),  # a card in a virtual machine
        (at("0000:00:02.0") | {f"{DEVICE}/hwmon/hwmon2/name": "i915\n"}, "discrete"),
        (at("0000:00:02.0") | {f"{CARD}/lmem_total_bytes": 16 * GIB}, "discrete"),
        (at("0000:00:02.0") | {f"{CARD}/lmem_total_bytes": 0}, "integrated"),
    ],
)
def test_kind(tmp_path: Path, files: dict[str, str | int], kind: str) -> None:
    assert one(tree(tmp_path, {**B580, **files})).kind.value == kind


@pytest.mark.parametrize(
    ("files", "total", "free"),
    [
        ({}, None, None),
        ({f"{CARD}/lmem_total_bytes": 16 * GIB}, 16 * GIB, None),
        ({f"{CARD}/lmem_total_bytes": 16 * GIB, f"{CARD}/lmem_avail_bytes": 15 * GIB}, 16 * GIB, 15 * GIB),
        ({f"{CARD}/lmem_total_bytes": 16 * GIB, f"{CARD}/lmem_avail_bytes": 17 * GIB}, 16 * GIB, 16 * GIB),
        ({f"{DEVICE}/tile0/physical_vram_size_bytes": 12 * GIB}, 12 * GIB, None),
        (
            {
                f"{DEVICE}/tile0/physical_vram_size_bytes": 64 * GIB,
                f"{DEVICE}/tile1/physical_vram_size_bytes": 64 * GIB,
            },
            128 * GIB,
            None,
        ),
        (
            {
                f"{DEVICE}/tile0/physical_vram_size_bytes": 64 * GIB,
                f"{DEVICE}/tile1/physical_vram_size_bytes": "?\n",
            },
            None,
            None,
        ),
    ],
)
def test_memory_where_an_out_of_tree_driver_tells_it(
    tmp_path: Path, files: dict[str, str | int], total: int | None, free: int | None
) -> None:
    card = one(tree(tmp_path, {**B580, **files}))
    assert (card.memory_total_bytes, card.memory_free_bytes, card.shared_bytes) == (total, free, None)


@pytest.mark.parametrize(
    ("speed", "width", "pcie"),
    [
        ("2.5 GT/s PCIe\n", "1\n", None),  # what Arc cards say, in any slot
        ("16.0 GT/s PCIe\n", "8\n", "gen4 x8"),
        ("Unknown\n", "255\n", None),
    ],
)
def test_link(tmp_path: Path, speed: str, width: str, pcie: str | None) -> None:
    files = {f"{DEVICE}/max_link_speed": speed, f"{DEVICE}/max_link_width": width}
    assert one(tree(tmp_path, {**B580, **files})).pcie == pcie


def test_name_driver_and_power(tmp_path: Path) -> None:
    bare = one(tree(tmp_path, B580))
    assert (bare.name, bare.pci_id, bare.driver) == ("Intel GPU (8086:e20b)", "8086:e20b", "xe")
    named: dict[str, str | int] = {"usr/share/hwdata/pci.ids": IDS, f"{DEVICE}/hwmon/hwmon4/power1_max": 190_000_000}
    card = one(tree(tmp_path, named))
    assert (card.name, card.power_limit_w, card.id) == ("Intel Arc B580", 190.0, "0000:03:00.0")


def test_device_file(tmp_path: Path) -> None:
    host = tree(tmp_path, {**B580, f"{DEVICE}/drm/renderD129/dev": "226:129\n"})
    cards, notes = intel(host, Memory(GIB, GIB))
    assert len(cards) == 1
    assert notes == (
        Note(
            "Intel: the driver is loaded, but there is no /dev/dri/renderD129: this container was started without its "
            "GPU",
            "docker run --device /dev/dri IMAGE",
        ),
    )
    assert intel(tree(tmp_path, {"dev/dri/renderD129": ""}), Memory(GIB, GIB)) == (cards, ())


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ("8086e20b", "Intel: Arc B580 (8086:e20b at 00:02.0) has no driver: this kernel may be too old for it"),
        ("80867d1d", None),  # as large a window, but not for pictures
        ("8086ffff", None),
    ],
)
def test_a_card_that_no_driver_has(tmp_path: Path, numbers: str, message: str | None) -> None:
    text = "\t".join(["0010", numbers, "0", *["0"] * 7, "10000000", *["0"] * 6, ""]) + "\n"
    host = tree(tmp_path, {"proc/bus/pci/devices": text, "usr/share/misc/pci.ids": IDS})
    cards, notes = intel(host, Memory(GIB, GIB))
    assert cards == ()
    assert notes == ((Note(message, "sudo modprobe -a i915 xe"),) if message else ())


def test_other_cards_are_not_intels(tmp_path: Path) -> None:
    """ASPEED's, which servers have for their console, and a framebuffer that is no PCI device."""
    files = {f"{DEVICE}/vendor": "0x1a03\n", "sys/class/drm/card1/device/uevent": "DRIVER=simple-framebuffer\n"}
    assert intel(tree(tmp_path, files), Memory(GIB, GIB)) == ((), ())
