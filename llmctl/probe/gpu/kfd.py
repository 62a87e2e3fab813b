"""AMD's compute driver (KFD): what its GPUs are compiled for, and which of them ROCm and HIP are told to use."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from llmctl.host import Host
from llmctl.probe.text import pairs, whole

NODES = "/sys/class/kfd/kfd/topology/nodes"
MOST_UNIQUE = (1 << 64) - 1
SHORTEST_UUID, LONGEST_UUID = 5, 20  # of what ROCR takes for the beginning of one: "GPU-" and 16 digits


class Node(Struct, frozen=True):
    """A GPU as KFD lists it. ``address`` is its PCI address, ``render`` its device file, "/dev/dri/renderD128".

    ``gfx`` is the target of the compiler, gfx1100. ``has_cpu_cores``: kernels with IOMMUv2 list both halves of an APU
    as one node (kfd_debug_print_topology() in amdkfd/kfd_topology.c), later ones as two. ``uuid`` is ROCR's, None on
    APUs and before gfx9.
    """

    address: str
    gfx: str | None
    has_cpu_cores: bool
    uuid: str | None
    render: str | None


def nodes(host: Host) -> tuple[Node, ...]:
    """The GPUs in KFD's order, which is that of ROCm's numbers: neither DRM's nor that of the PCI addresses."""
    files = [
        (re.fullmatch(rf"{NODES}/(\d{{1,4}})/properties", name), name) for name in host.glob(f"{NODES}/*/properties")
    ]
    gpus = []
    for _, name in sorted((int(match[1]), name) for match, name in files if match):
        words = pairs(host.read(name), " ")
        numbers = {key: whole(value) for key, value in words.items()}
        if not numbers.get("simd_count"):
            continue  # the CPU's
        minor = numbers.get("drm_render_minor")
        gpus.append(
            Node(
                address=_address(numbers.get("domain") or 0, numbers.get("location_id") or 0),
                gfx=target(numbers.get("gfx_target_version") or 0),
                has_cpu_cores=bool(numbers.get("cpu_cores_count")),
                uuid=_uuid(words.get("unique_id", "")),
                render=f"/dev/dri/renderD{minor}" if minor else None,
            )
        )
    return tuple(gpus)


def _address(domain: int, location: int) -> str:
    """``location`` is bus << 8 | device << 3 | function; partitions of one GPU differ in bits above."""
    return f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.{location & 7}"


def _uuid(unique: str) -> str | None:
    """As rocminfo prints it; ``unique`` is a decimal number of 64 bits, 0 where the GPU has none."""
    if not (unique.isascii() and unique.isdecimal() and len(unique) <= len(str(MOST_UNIQUE))):
        return None
    return f"GPU-{int(unique):016x}" if 0 < int(unique) <= MOST_UNIQUE else None


def target(version: int) -> str | None:
    """gfx1101 for 110001, gfx90a for 90010: major * 10000 + minor * 100 + stepping, the last two as one hexadecimal
    digit each (gfx_target_version in kgd2kfd_probe(), amdkfd/kfd_device.c; LLVM, "User Guide for AMDGPU Backend")."""
    major, minor, stepping = version // 10000, version // 100 % 100, version % 100
    return f"gfx{major}{minor:x}{stepping:x}" if 0 < major < 100 and minor < 16 and stepping < 16 else None


def hidden(host: Host, gpus: Sequence[Node], *, cuda_too: bool) -> tuple[frozenset[str], tuple[str, ...]]:
    """The PCI addresses of GPUs that the environment hides from ROCm, and the variables that hide.

    ROCR_VISIBLE_DEVICES chooses from the GPUs whose device files are here, HIP_VISIBLE_DEVICES (CUDA_VISIBLE_DEVICES
    where that is empty) numbers what is left. GPU_DEVICE_ORDINAL is for OpenCL only.
    Sources: ROCm/ROCR-Runtime, runtime/amd_filter_device.cpp and libhsakmt/src/topology.c; ROCm/clr,
    rocclr/device/rocm/rocdevice.cpp.
    ``cuda_too`` is False where there are NVIDIA cards, for which that variable is then meant.
    """
    left = [node for node in gpus if node.render is None or host.exists(node.render)]
    names: list[str] = []
    addresses = {node.address for node in left}
    rocr = host.environ.get("ROCR_VISIBLE_DEVICES")
    if rocr is not None:  # set and empty hides all
        left = of_rocr(left, rocr)
        names.append("ROCR_VISIBLE_DEVICES")
    for name in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")[: 1 + cuda_too]:
        hip = host.environ.get(name)
        if hip:  # empty hides nothing
            left = of_hip(left, hip)
            names.append(name)
            break
    return frozenset(addresses - {node.address for node in left}), tuple(names)


def of_rocr(gpus: Sequence[Node], choice: str) -> list[Node]:
    """What ROCR_VISIBLE_DEVICES names: numbers, or the beginning of a uuid in either case, up to the first word that
    does not name exactly one GPU, or names one for the second time."""
    shown: list[Node] = []
    for word in (part.strip().upper() for part in choice.split(",")):
        if word.startswith("G"):
            fits = SHORTEST_UUID <= len(word) <= LONGEST_UUID
            matches = [node for node in gpus if fits and (node.uuid or "").upper().startswith(word)]
        else:
            matches = _numbered(gpus, word)
        if len(matches) != 1 or matches[0] in shown:
            break
        shown += matches
    return shown


def of_hip(gpus: Sequence[Node], choice: str) -> list[Node]:
    """What HIP_VISIBLE_DEVICES names: numbers without spaces, or the first GPU with this part of a uuid, up to the
    first word that names none."""
    shown: list[Node] = []
    for word in choice.split(","):
        if "GPU-" in word:
            matches = [node for node in gpus if word in (node.uuid or "")][:1]
        else:
            matches = _numbered(gpus, word) if word == str(whole(word)) else []
        if not matches:
            break
        shown += [node for node in matches if node not in shown]
    return shown


def _numbered(gpus: Sequence[Node], word: str) -> list[Node]:
    number = whole(word)
    return list(gpus[number : number + 1]) if number is not None else []
