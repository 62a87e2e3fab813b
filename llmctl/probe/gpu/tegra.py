"""NVIDIA's chips with the GPU beside the processor cores (Jetson), where NVML tells little or isn't there at all."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from llmctl.host import Host
from llmctl.probe.gpu.nvml import Card, NvmlReport
from llmctl.probe.text import line

# The device tree's word for the chip; its name, and the compute capability of the boards it is on, from
# developer.nvidia.com/cuda-gpus and cuda-legacy-gpus.
CHIPS: Mapping[str, tuple[str, str]] = {
    "nvidia,tegra264": ("Thor", "11.0"),
    "nvidia,tegra234": ("Orin", "8.7"),
    "nvidia,tegra194": ("Xavier", "7.2"),
    "nvidia,tegra186": ("TX2", "6.2"),
    "nvidia,tegra210": ("X1", "5.3"),
}
RELEASE = "/etc/nv_tegra_release"
NODES = ("/dev/nvgpu", "/dev/nvhost-ctrl-gpu", "/dev/nvmap")
NO_BUS = "0000:00:00.0"  # what CUDA, and so ggml, gives for the address of a GPU on no PCI bus (nvbandwidth on Orin)

# "NVIDIA Jetson AGX Orin Developer Kit"; JetPack 5 leaves "Jetson" out ("NVIDIA Orin Nano Developer Kit")
MODEL = re.compile(
    r"(?:NVIDIA )?(?:Jetson[ -])?((?:AGX|Orin|Xavier|Thor|TX\d|Nano)\b.*?)"
    r"(?: Engineering Reference\b.*| Developer Kit\b.*| Module\b.*)?"
)
L4T = re.compile(r"R(\d{1,3}) \(release\), REVISION: ([\d.]{1,12})")


class Board(Struct, frozen=True):
    """``driver`` is the release of Linux for Tegra, which the GPU's driver is part of: "L4T 36.4.3". ``reachable``:
    the GPU's device files are there."""

    name: str
    compute_capability: str | None
    driver: str | None
    reachable: bool


def board(host: Host) -> Board | None:
    """The board that ``host`` is, None if it is none of NVIDIA's. Containers do not see the device tree; the release
    file is mounted into those that were started with NVIDIA's runtime."""
    words = (host.read("/proc/device-tree/compatible") or "").split("\0")
    chip, capability = next((CHIPS[word] for word in words if word in CHIPS), (None, None))
    release = L4T.search(host.read(RELEASE) or "")
    if chip is None and release is None:
        return None
    model = line(host.read("/proc/device-tree/model"))
    named = MODEL.fullmatch(model)
    name = f"Jetson {named[1]}" if named else f"NVIDIA {chip or 'Jetson'}"
    if model.endswith(" Super") and name == "Jetson Orin Nano":  # sold under that name; for others it is a mode
        name = f"{name} Super"
    return Board(
        name=name,
        compute_capability=capability,
        driver=f"L4T {release[1]}.{release[2].rstrip('.')}" if release else None,
        reachable=any(host.exists(node) for node in NODES),
    )


def with_board(report: NvmlReport | None, board: Board) -> NvmlReport:
    """NVML's report, if there is one, with the board's GPU named and described by the board. NVML calls it "Orin
    (nvgpu)" and answers most questions with an error or with nothing (JetPack 6 and 7)."""
    cards = report.cards if report else ()
    own = next((card for card in cards if card.shared or card.address is None), None)
    gpu = replace(
        own or Card(None),
        name=board.name,
        address=own.address if own and own.address else NO_BUS,
        shared=True,
        memory_total_bytes=None,
        memory_free_bytes=None,
        compute_capability=board.compute_capability or (own.compute_capability if own else None),
    )
    others = tuple(card for card in cards if card is not own)
    driver = report.driver if report and report.driver else board.driver
    return replace(report or NvmlReport(), driver=driver, cards=(gpu, *others), no_cuda=False)
