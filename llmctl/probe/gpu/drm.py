"""Graphics cards in sysfs: which there are, which driver has them, and whether this user may open them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from llmctl.host import Host
from llmctl.probe.gpu import pci_ids, remedies
from llmctl.probe.gpu.pci_ids import VENDORS
from llmctl.probe.text import line, pairs, whole
from llmctl.types.machine import Note

MODULES = {"AMD": "amdgpu", "Intel": "i915 xe"}  # xe has Intel's GPUs from 2024 on (Lunar Lake, Battlemage)
VIRTUAL_MACHINE = ("vfio-pci", "pci-stub", "pciback", "xen-pciback")  # drivers that keep a device for one

ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
PCI_ID = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")
DRIVER = re.compile(r"[a-z0-9_-]{1,32}")
VERSION = re.compile(r"[0-9][0-9A-Za-z._~+-]{0,31}")

MOST_BYTES = 1 << 50  # beyond any memory: such a number is not one that a driver wrote
MOST_WATTS = 5000
# In transfers per second: PCI Express Base Specification, as pci_speed_string() in drivers/pci/probe.c writes them
GENERATIONS = {"2.5": 1, "5.0": 2, "8.0": 3, "16.0": 4, "32.0": 5, "64.0": 6}
SIZES, DRIVER_FIELD = slice(10, 17), 17  # of the fields of a line in /proc/bus/pci/devices
HEXADECIMAL = re.compile(r"[0-9a-f]{1,16}")
SMALLEST_WINDOW_BYTES = 256 << 20  # a GPU's window onto its memory; the audio and USB functions on a card have less


class DrmCard(Struct, frozen=True):
    """A GPU of AMD, Intel or NVIDIA that a kernel driver has taken, nouveau included.

    ``card`` is its folder, "/sys/class/drm/card0", whose ``device`` is the PCI function; ``address`` that function's
    ("0000:03:00.0", lower case), or "card0" where there is none. ``pci_id`` is "1002:747e".
    """

    card: str
    address: str
    vendor: str
    pci_id: str | None
    driver: str | None


def cards(host: Host) -> tuple[DrmCard, ...]:
    """Every GPU of a known vendor under /sys/class/drm, in the kernel's order. Costs one listing where there is none.

    The order is that in which drivers took them: neither that of PCI addresses nor that of CUDA, ROCm or Vulkan.
    """
    folders = host.glob("/sys/class/drm/card*")
    matches = [match for folder in folders if (match := re.fullmatch(r".*/card(\d{1,4})", folder))]  # not card0-DP-1
    by_address: dict[str, DrmCard] = {}
    for folder, _ in sorted(((match[0], int(match[1])) for match in matches), key=lambda pair: pair[1]):
        vendor = VENDORS.get(line(host.read(f"{folder}/device/vendor")).lower().removeprefix("0x"))
        if vendor is None:
            continue
        event = pairs(host.read(f"{folder}/device/uevent"), "=")
        address = event.get("PCI_SLOT_NAME", "").lower()
        pci_id = event.get("PCI_ID", "").lower()
        driver = event.get("DRIVER", "")
        card = DrmCard(
            card=folder,
            address=address if ADDRESS.fullmatch(address) else folder.rpartition("/")[2],
            vendor=vendor,
            pci_id=pci_id if PCI_ID.fullmatch(pci_id) else None,
            driver=driver if DRIVER.fullmatch(driver) else None,
        )
        by_address.setdefault(card.address, card)
    return tuple(by_address.values())


class BusDevice(Struct, frozen=True):
    """A function on the PCI bus. ``address`` is without the domain, "03:00.0", which the file does not tell;
    ``window_bytes`` is the largest part of it that the processor sees. ``driver`` is None if it has none."""

    address: str
    pci_id: str
    driver: str | None
    window_bytes: int


def on_the_bus(host: Host) -> tuple[BusDevice, ...]:
    """The devices of those vendors, with any driver, from /proc/bus/pci/devices: bus and devfn, vendor and device,
    interrupt, seven addresses, seven sizes, driver (show_device() in drivers/pci/proc.c)."""
    devices = []
    for text in (host.read("/proc/bus/pci/devices") or "").splitlines():
        fields = [field.strip().lower() for field in text.split("\t")]
        if len(fields) <= DRIVER_FIELD or not all(HEXADECIMAL.fullmatch(field) for field in fields[:DRIVER_FIELD]):
            continue
        place, numbers, driver = int(fields[0], 16), fields[1], fields[DRIVER_FIELD]
        if len(numbers) == 8 and numbers[:4] in VENDORS and place <= 0xFFFF:
            devices.append(
                BusDevice(
                    address=f"{place >> 8:02x}:{place >> 3 & 0x1F:02x}.{place & 7}",
                    pci_id=f"{numbers[:4]}:{numbers[4:]}",
                    driver=driver if DRIVER.fullmatch(driver) else None,
                    window_bytes=max(int(field, 16) for field in fields[SIZES]),
                )
            )
    return tuple(devices)


def undriven(host: Host, vendor: str) -> tuple[Note, ...]:
    """A note for each GPU of ``vendor`` that no graphics driver has taken, so that DRM does not list it: kept for a
    virtual machine, or too new for this kernel. The bus has no classes: what has a large window is a GPU, and of
    Intel's devices what is also called one."""
    notes = []
    for device in on_the_bus(host):
        idle = device.driver is None or device.driver in VIRTUAL_MACHINE
        if VENDORS[device.pci_id[:4]] != vendor or not idle or device.window_bytes < SMALLEST_WINDOW_BYTES:
            continue
        name = pci_ids.name(host, device.pci_id)
        if vendor == "Intel" and not re.search(r"Graphics|\bArc\b", name or ""):
            continue
        gpu = f"{vendor}: {name or 'a GPU'} ({device.pci_id} at {device.address})"
        if device.driver:
            notes.append(Note(f"{gpu} is kept for a virtual machine ({device.driver})"))
        else:
            message = f"{gpu} has no driver: this kernel may be too old for it"
            notes.append(Note(message, f"sudo modprobe -a {MODULES[vendor]}"))
    return tuple(notes)


def reachable(
    host: Host, cards: Sequence[DrmCard], control: str | None = None
) -> tuple[tuple[DrmCard, ...], tuple[Note, ...]]:
    """The cards that this container was given (all of them, if it was given none), and notes with
    what lets us through to their device files. ``control`` is another such file, needed for all."""
    if not cards:
        return (), ()
    vendor = cards[0].vendor
    files = {card: _device_file(host, card) for card in cards}
    reached = tuple(card for card in cards if files[card] is None or host.exists(files[card] or ""))
    missing = files[cards[0]] if not reached else control if control and not host.exists(control) else None
    notes = []
    if missing:
        lacking = "it" if reached else "its GPU"
        message = (
            f"{vendor}: the driver is loaded, but there is no {missing}: this container was started without {lacking}"
        )
        notes.append(Note(message, remedies.start_with_gpu(host, vendor, cards[0].driver, control)))
    if 0 < len(reached) < len(cards):
        others = ", ".join(card.address for card in cards if card not in reached)
        notes.append(Note(f"{vendor}: this container was not given {others}"))
    device_files = [file for file in (control, *(files[card] for card in reached)) if file and host.exists(file)]
    denied = [file for file in device_files if not host.readable(file)]
    if denied:
        notes.append(Note(f"{vendor}: you may not open {', '.join(denied)}", remedies.join_group(host, control)))
    return reached or tuple(cards), tuple(notes)


def _device_file(host: Host, card: DrmCard) -> str | None:
    """The file that programs open to compute on it, None if it has none (display only)."""
    names = (name.rpartition("/")[2] for name in host.glob(f"{card.card}/device/drm/renderD*"))
    return next((f"/dev/dri/{name}" for name in names if re.fullmatch(r"renderD\d{1,4}", name)), None)


def named(card: DrmCard, product: str | None) -> str:
    """What the card is shown as: "AMD Radeon RX 7800 XT", "Intel GPU (8086:e20b)" where no table knows it."""
    if product:
        return product if product.startswith(card.vendor) else f"{card.vendor} {product}"
    return f"{card.vendor} GPU ({card.pci_id})" if card.pci_id else f"{card.vendor} GPU"


def size(host: Host, name: str) -> int | None:
    """The number of bytes in a file of sysfs, None if there is none."""
    size_bytes = whole(host.read(name))
    return size_bytes if size_bytes is not None and size_bytes < MOST_BYTES else None


def driver(host: Host, card: DrmCard) -> str | None:
    """The kernel's driver, with its version where it has one apart from the kernel's: "amdgpu 6.10.5"."""
    version = line(host.read(f"/sys/module/{card.driver}/version")) if card.driver else ""
    return f"{card.driver} {version}" if VERSION.fullmatch(version) else card.driver


def link(host: Host, card: DrmCard) -> str | None:
    """The PCI Express link as the card could have it at best, "gen4 x16"."""
    generation = GENERATIONS.get(line(host.read(f"{card.card}/device/max_link_speed")).partition(" ")[0])
    width = whole(host.read(f"{card.card}/device/max_link_width"))
    return f"gen{generation} x{width}" if generation and width and width <= 32 else None


def power_limit(host: Host, card: DrmCard, file: str) -> float | None:
    """What the card may draw, in watts, from a file of its hwmon in microwatts. None while it sleeps: to ask it would
    wake it, which takes a second."""
    if line(host.read(f"{card.card}/device/power/runtime_status")) == "suspended":
        return None
    microwatts = (whole(host.read(name)) for name in host.glob(f"{card.card}/device/hwmon/hwmon*/{file}"))
    return next((watts / 1e6 for watts in microwatts if watts and watts <= MOST_WATTS * 1_000_000), None)
