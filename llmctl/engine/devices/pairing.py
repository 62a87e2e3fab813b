"""Matches the devices that the engine lists with the cards that the probe found. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmctl.probe.described.product_name import BRANDS
from llmctl.types.machine import Accelerator, AcceleratorKind, EngineDevice

CPU_BACKENDS = frozenset({"CPU", "BLAS", "ZenDNN", "zDNN", "RPC"})  # those that drive no GPU of this machine
# ggml's backends by the vendor whose GPUs they drive (the names that each ggml_backend_*_reg gives itself)
BACKENDS = {
    "NVIDIA": ("CUDA", "Vulkan", "OpenCL"),
    "AMD": ("ROCm", "Vulkan", "OpenCL"),
    "Intel": ("SYCL", "OPENVINO", "Vulkan", "OpenCL"),
    "Apple": ("Metal", "MTL", "Vulkan"),
}
VENDORS = {"CUDA": "NVIDIA", "ROCm": "AMD", "SYCL": "Intel", "Metal": "Apple", "MTL": "Apple"}
WORDS = {**BRANDS, "arc": "Intel"}  # no brand by itself: other products have an "arc" in their names
VAGUE_WORDS = frozenset({"gpu", "graphics", "corporation"} | {vendor.lower() for vendor in BACKENDS})

SOFTWARE = ("llvmpipe", "lavapipe", "swiftshader", "basic render")  # a GPU that the CPU plays
# What Vulkan calls a card that is reached through another system's driver: on WSL, in a virtual machine
THROUGH = re.compile(r"(?:Microsoft Direct3D12|Virtio-GPU Venus) \((.+)\)")
ADDRESS = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")


def is_gpu(device: EngineDevice) -> bool:
    """Whether a listed device is a GPU of this machine, and not one that the CPU emulates."""
    software = any(name in device.description.lower() for name in SOFTWARE)
    return device.kind in ("gpu", "igpu") and device.backend not in CPU_BACKENDS and not software


def pairs(cards: Sequence[Accelerator], devices: Sequence[EngineDevice]) -> dict[int, int]:
    """The card of each device of one backend, both by index: by PCI address where both have one, then by name, then by
    what is left of the vendor, the most alike first. No card is given twice; a device without a card is left out."""
    card_of_device: dict[int, int] = {}
    for same in (same_address, _same_name, _may_be_same):
        alike = sorted(
            (*_distance(card, device), d, c)
            for d, device in enumerate(devices)
            for c, card in enumerate(cards)
            if same(card, device)
        )
        for *_, d, c in alike:
            if d not in card_of_device and c not in card_of_device.values():
                card_of_device[d] = c
    return card_of_device


def same_address(card: Accelerator, device: EngineDevice) -> bool:
    """Whether card and device have one PCI address. A MIG slice has that of its card: CUDA reports no other."""
    device_address = address(device.id)
    return device_address is not None and device_address in (address(card.id), address(card.parent))


def address(id: str | None) -> tuple[int, ...] | None:
    """Domain, bus, device and function of a PCI address, None for anything else. NVML writes domains with eight
    digits, the kernel and ggml with four or more, some drivers only the last four; ggml puts "-v1" behind that of a
    GPU that it was told to split."""
    match = ADDRESS.match((id or "").lower())
    return None if match is None else tuple(int(part, 16) & 0xFFFF for part in match.groups())


def vendor(device: EngineDevice) -> str:
    """The device's vendor by its backend; with Metal by its name, as older Macs have AMD and Intel GPUs."""
    words = re.findall(r"[a-z]+", device.description.lower())
    named = next((WORDS[word] for word in words if word in WORDS), None)
    certain = VENDORS.get(device.backend)
    return named or certain or "unknown" if certain == "Apple" else certain or named or "unknown"


def kind(vendor: str, device: EngineDevice) -> AcceleratorKind:
    """The kind of a listed device. Apple's GPUs and NVIDIA's integrated ones (Jetson, GB10) are unified: they have no
    memory of their own."""
    if vendor == "Apple" or (vendor == "NVIDIA" and device.kind == "igpu"):
        return AcceleratorKind.UNIFIED
    return AcceleratorKind.INTEGRATED if device.kind == "igpu" else AcceleratorKind.DISCRETE


def _same_name(card: Accelerator, device: EngineDevice) -> bool:
    return _words(card.name) == _words(device.description) != () and not _addresses_differ(card, device)


def _may_be_same(card: Accelerator, device: EngineDevice) -> bool:
    """Whether both are of one vendor, and neither their addresses nor the numbers in their names differ."""
    models = [{word for word in _words(name) if re.search(r"\d", word)} for name in (card.name, device.description)]
    unlike = all(models) and not models[0] & models[1]
    return card.vendor == vendor(device) and not unlike and not _addresses_differ(card, device)


def _addresses_differ(card: Accelerator, device: EngineDevice) -> bool:
    device_address, card_address = address(device.id), address(card.parent or card.id)
    return device_address is not None and card_address is not None and device_address != card_address


def _distance(card: Accelerator, device: EngineDevice) -> tuple[int, ...]:
    """Sort key: smaller for a card that is more likely the device. A MIG slice comes before its whole card."""
    parts = [set(re.findall(r"[a-z]+|\d+", name.lower())) for name in (card.name, device.description)]
    return (
        card.parent is None,
        (device.kind == "igpu") is (card.kind is AcceleratorKind.DISCRETE),
        -len(parts[0] & parts[1]),
        abs((card.memory_total_bytes or 0) - device.memory_total_bytes),
    )


def _words(name: str) -> tuple[str, ...]:
    """The words of a name that tell models apart: "AMD Radeon RX 7900 XTX (RADV NAVI31)" is radeon rx 7900 xtx."""
    through = THROUGH.fullmatch(name)
    plain = re.sub(r"\((?:r|tm|c)\)", " ", (through[1] if through else name).lower())
    words = re.findall(r"[\w+-]+", re.sub(r"\([^)]*\)", " ", plain))
    return tuple(word for word in words if word not in VAGUE_WORDS)
