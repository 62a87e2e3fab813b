"""NVIDIA cards as the kernel knows them: run by NVIDIA's driver, by another, by none; and what mends that."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from llmctl.host import Host
from llmctl.probe.gpu import drm
from llmctl.probe.gpu.pci_ids import VENDORS
from llmctl.probe.text import pairs

VENDOR = "NVIDIA"
DOWNLOAD = "https://www.nvidia.com/drivers"
LOG = "sudo dmesg | grep NVRM   (it may tell why)"
VERSION = re.compile(r"\b\d{2,4}(?:\.\d{1,4}){1,2}\b")

# By the ID of /etc/os-release: the driver (ubuntu.com/server/docs "NVIDIA drivers installation",
# wiki.debian.org/NvidiaGraphicsDrivers, rpmfusion.org/Howto/NVIDIA, wiki.archlinux.org/title/NVIDIA), and the packages
# that hold libnvidia-ml.so.1 and libcuda.so.1.
DRIVER: Mapping[str, str] = {
    "ubuntu": "sudo ubuntu-drivers install",
    "debian": "sudo apt install nvidia-driver",
    "fedora": "sudo dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda",
    "arch": "sudo pacman -S nvidia-open nvidia-utils",
}
LIBRARIES: Mapping[str, str] = {
    "ubuntu": "sudo apt install libnvidia-compute-{series}",
    "debian": "sudo apt install libnvidia-ml1 libcuda1",
    "fedora": "sudo dnf install xorg-x11-drv-nvidia-cuda-libs",
    "arch": "sudo pacman -S nvidia-utils",
}
LIBRARY_PLACES = (
    "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
    "/usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1",
    "/usr/lib64/libnvidia-ml.so.1",
    "/usr/lib/libnvidia-ml.so.1",
)


class KernelCard(Struct, frozen=True):
    """``address`` has a PCI domain only where a driver that shows pictures has the card: /proc/bus/pci leaves it out.
    ``driver`` is the kernel's word: nvidia, nouveau, vfio-pci; None for none."""

    address: str
    pci_id: str | None
    driver: str | None


def cards(host: Host) -> tuple[KernelCard, ...]:
    """Every NVIDIA GPU that the kernel sees, with any driver."""
    shown = [KernelCard(card.address, card.pci_id, card.driver) for card in drm.cards(host) if card.vendor == VENDOR]
    addresses = {card.address.partition(":")[2] for card in shown}
    others = (
        KernelCard(device.address, device.pci_id, device.driver)
        for device in drm.on_the_bus(host)
        # the sound of a card has no large window, nor has an NVSwitch
        if VENDORS[device.pci_id[:4]] == VENDOR and device.window_bytes >= drm.SMALLEST_WINDOW_BYTES
    )
    return (*shown, *(card for card in others if card.address not in addresses))


def version(host: Host) -> str | None:
    """The version of NVIDIA's kernel module, "550.90.07"."""
    first = (host.read("/proc/driver/nvidia/version") or "").partition("\n")[0]
    match = VERSION.search(first) if first.startswith("NVRM version:") else None
    return match[0] if match else None


def installed(host: Host) -> bool:
    """Whether the driver's library lies where distributions put it."""
    return any(host.exists(place) for place in LIBRARY_PLACES)


def install_driver(host: Host) -> str:
    """What installs NVIDIA's driver here."""
    return _of_this_system(host, DRIVER) or DOWNLOAD


def install_libraries(host: Host, version: str | None) -> str:
    """What installs the driver's libraries here, ``version`` being the kernel module's."""
    series = (version or "").partition(".")[0]
    command = _of_this_system(host, LIBRARIES)
    if command is None or ("{series}" in command and not series.isdecimal()):
        return f"{DOWNLOAD}   (or the system's package of the driver's libraries, of the same version)"
    return command.format(series=series)


def _of_this_system(host: Host, commands: Mapping[str, str]) -> str | None:
    release = pairs(host.read("/etc/os-release"), "=")
    names = f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".replace('"', "").replace("'", "").split()
    if "rhel" in names:  # calls itself like Fedora, but has other packages
        return None
    return next((commands[name] for name in names if name in commands), None)
