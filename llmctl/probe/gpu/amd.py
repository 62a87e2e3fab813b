"""AMD GPUs on Linux: memory from amdgpu, the compiler's target from KFD.

    mem_info_vram_*   a card's own memory; on an APU the part that the firmware carved out: the kernel never saw it, so
                      MemTotal is without it
    mem_info_gtt_*    the machine's memory that the GPU may borrow, counted in MemTotal too

(amdgpu_vram_mgr.c, amdgpu_gtt_mgr.c in drivers/gpu/drm/amd/amdgpu.)
"""

from __future__ import annotations

from llmctl.host import Host
from llmctl.probe.gpu import drm, kfd, pci_ids
from llmctl.probe.gpu.drm import DrmCard, size
from llmctl.probe.gpu.kfd import Node
from llmctl.probe.text import line
from llmctl.types.machine import Accelerator, AcceleratorKind, Memory, Note

VENDOR = "AMD"
# Targets of which the table of processors in LLVM's "User Guide for AMDGPU Backend" says APU; gfx1037 is Mendocino
APU_TARGETS = frozenset(
    [
        "gfx700",
        "gfx801",
        "gfx902",
        "gfx909",
        "gfx90c",
        "gfx1013",
        "gfx1033",
        "gfx1035",
        "gfx1036",
        "gfx1037",
        "gfx1103",
        "gfx1150",
        "gfx1151",
        "gfx1152",
        "gfx1153",
    ]
)
LARGEST_CARVE_OUT_BYTES = 4 << 30  # where nothing else tells an APU from a card: most firmware gives 0.5 to 4 GiB


def amd(host: Host, memory: Memory) -> tuple[tuple[Accelerator, ...], tuple[Note, ...]]:
    """The GPUs and notes on what could not be learnt. Those that the environment hides from ROCm are left out."""
    everything = drm.cards(host)
    cards = [card for card in everything if card.vendor == VENDOR]
    notes = drm.undriven(host, VENDOR)
    if not cards:
        return (), notes
    nodes = kfd.nodes(host)
    reached, more = drm.reachable(host, cards, "/dev/kfd" if nodes else None)
    notes += more
    foreign = any(card.vendor == "NVIDIA" for card in everything) or host.exists("/dev/nvidiactl")
    unseen, variables = kfd.hidden(host, nodes, cuda_too=not foreign)
    of_address = {node.address: node for node in nodes}
    shown = []
    for card in reached:
        accelerator = _accelerator(host, card, of_address.get(card.address), memory)
        if card.address in unseen:
            gpu = f"{accelerator.name.removeprefix('AMD ')} at {accelerator.id}"
            message = f"AMD: {gpu} is left out: hidden from ROCm by {', '.join(variables)}"
            notes += (Note(message, f"unset {' '.join(variables)}   to use it"),)
        else:
            shown.append(accelerator)
    return tuple(shown), notes


def _accelerator(host: Host, card: DrmCard, node: Node | None, memory: Memory) -> Accelerator:
    device = f"{card.card}/device"
    vram, vram_used = size(host, f"{device}/mem_info_vram_total"), size(host, f"{device}/mem_info_vram_used")
    gtt, gtt_used = size(host, f"{device}/mem_info_gtt_total"), size(host, f"{device}/mem_info_gtt_used")
    integrated = is_integrated(host, card, node, vram, gtt)
    total, free, shared = vram, _left(vram, vram_used), None
    if integrated and gtt is not None:
        shared = min(gtt, memory.total_bytes)  # the limit may be set beyond what there is (ttm.pages_limit)
        borrowed = _left(gtt, gtt_used)
        total = (vram or 0) + shared
        free = None
        if borrowed is not None and (vram is None or vram_used is not None):
            free = (_left(vram, vram_used) or 0) + min(borrowed, memory.available_bytes)
    return Accelerator(
        id=card.address,
        name=drm.named(card, _product(host, card)),
        vendor=VENDOR,
        kind=AcceleratorKind.INTEGRATED if integrated else AcceleratorKind.DISCRETE,
        memory_total_bytes=total,
        memory_free_bytes=free,
        driver=drm.driver(host, card),
        shared_bytes=shared,
        architecture=node.gfx if node else None,
        uuid=node.uuid if node else None,
        pcie=None if integrated else drm.link(host, card),
        power_limit_w=drm.power_limit(host, card, "power1_cap"),
        pci_id=card.pci_id,
    )


def is_integrated(host: Host, card: DrmCard, node: Node | None, vram: int | None, gtt: int | None) -> bool:
    """Whether it is an APU's, by what amdgpu shows of these alone or of cards alone; by size as the last resort.

    vddnb is a voltage that only APUs have (amdgpu_pm.c); uma/ sets the carve-out (amdgpu_device.c, Linux 7.0);
    board_info tells the form of a card (amdgpu_device.c, Linux 6.9); the vendor of its memory chips is known of cards
    alone (amdgpu_vram_mgr.c; before Linux 6.9 APUs said "unknown").
    """
    device = f"{card.card}/device"
    labels = (line(host.read(name)) for name in host.glob(f"{device}/hwmon/hwmon*/in1_label"))
    if (node and node.has_cpu_cores) or "vddnb" in labels:
        return True
    if host.exists(f"{device}/uma/carveout"):
        return True
    chips = line(host.read(f"{device}/mem_info_vram_vendor"))
    if host.exists(f"{device}/board_info") or chips not in ("", "unknown"):
        return False
    if node and node.gfx:
        return node.gfx in APU_TARGETS
    if vram is None:
        return gtt is not None  # MI300A: all of its memory is the machine's
    return vram <= LARGEST_CARVE_OUT_BYTES and (gtt is None or gtt > vram)


def _left(total: int | None, used: int | None) -> int | None:
    return None if total is None or used is None else max(0, total - used)


def _product(host: Host, card: DrmCard) -> str | None:
    """Instinct and Radeon Pro boards carry their name, others are looked up. A single word is a chip's ("Phoenix1"),
    which says less than its number: by that the device table may know it."""
    device = f"{card.card}/device"
    product_name = line(host.read(f"{device}/product_name"))
    looked_up = product_name or pci_ids.name(host, card.pci_id, host.read(f"{device}/revision")) or ""
    return looked_up if product_name or " " in looked_up else None
