"""Works out the command that installs the llama-cpp-python build that fits a machine. Pure but for ``installed``.

Facts about wheels are those of llama-cpp-python 0.3.36: its README, and in .github/workflows the build-wheels-*.yaml
(what each wheel is built for) and generate-index-from-release.yaml (which indexes there are). Every wheel is
py3-none, so the version of Python doesn't matter. Those for CUDA and ROCm bring no runtime libraries on Linux.

A wheel is taken from its own index and nothing else from anywhere (``--no-deps``): the same version lies on the usual
index as source, which pip would build for the CPU. The version is bounded, so that pip refuses where an index has
only older ones instead of installing one that llmctl can't use.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence

from msgspec import Struct

from llmctl.host import Host
from llmctl.probe.gpu.drm import VIRTUAL_MACHINE
from llmctl.probe.text import line
from llmctl.types.machine import Accelerator, AcceleratorKind, Machine

PACKAGE = "llama-cpp-python"
REQUIREMENT = f"{PACKAGE}>=0.3.36"  # as in pyproject.toml
NO_WHEEL = "--no-binary"
INDEX = "https://abetlen.github.io/llama-cpp-python/whl"

WHEEL_MACHINES = ("x86_64", "amd64")  # GPU wheels are built for no other processor, Metal's apart
# The oldest C library that a wheel runs with: auditwheel's tags on the released files, manylinux_2_35 and manylinux2014
GPU_GLIBC, VULKAN_GLIBC = (2, 35), (2, 17)

CUDA_WHEELS = ((13, 2), (13, 0), (12, 5), (12, 4), (12, 3), (12, 2), (12, 1), (11, 8))
NOT_ON_WINDOWS = ((12, 3), (12, 2), (12, 1))
# Compute capabilities that the wheels of a CUDA version have code for (CMAKE_CUDA_ARCHITECTURES); those of 12 and 13
# carry PTX for 9.0, which drivers translate for newer cards.
CAPABILITIES = {11: ((6, 0), (8, 9)), 12: ((6, 0), None), 13: ((7, 5), None)}
LOWEST_CAPABILITY = (5, 0)  # ggml/src/ggml-cuda/CMakeLists.txt: the lowest that CUDA 12 compiles for
# The oldest drivers for a CUDA version and all of its minor ones, on Linux and Windows: NVIDIA, CUDA Toolkit Release
# Notes, "CUDA Toolkit and Minimum Required Driver Version for CUDA Minor Version Compatibility"; 13 has none for
# Windows, there it is the first of the branch.
DRIVERS = {11: ("450.80.02", "452.39"), 12: ("525.60.13", "528.33"), 13: ("580.65.06", "580")}

ROCM_VERSION = ("/opt/rocm/.info/version", "/opt/rocm/core/.info/version")  # "7.2.0-43"; the latter since 7.14
ROCM_WHEEL = (7, 2)
OLDEST_ROCM = (6, 1)  # ggml/src/ggml-hip/CMakeLists.txt
ROCM_TARGETS = frozenset(
    [
        "gfx908",
        "gfx90a",
        "gfx942",
        "gfx1030",
        "gfx1100",
        "gfx1101",
        "gfx1102",
        "gfx1150",
        "gfx1151",
        "gfx1200",
        "gfx1201",
    ]
)
HIP_RADEON_TARGETS = frozenset(  # the Windows wheel, which brings ROCm's libraries
    ["gfx1030", "gfx1031", "gfx1032", "gfx1100", "gfx1101", "gfx1102", "gfx1150", "gfx1151", "gfx1200", "gfx1201"]
)

VULKAN_LIBRARIES = "libvulkan.so.1 and the card's Vulkan driver (sudo apt install libvulkan1 mesa-vulkan-drivers)"
VULKAN_TOOLS = "a C++ compiler, glslc and Vulkan's headers (sudo apt install libvulkan-dev glslc spirv-headers)"
COMPILER = "a C++ compiler"
SMALLEST_DRIVER = (300,)  # Tegra's are counted otherwise (36.4)


class Installed(Struct, frozen=True):
    """What the command that installs a build depends on. ``python`` is the interpreter that llmctl runs with, a path or
    a command; its environment has pip. ``glibc`` is the C library's version, (0, 0) for another library; ``rocm`` that
    of AMD's libraries. None is unknown."""

    python: str = "python"
    glibc: tuple[int, ...] | None = None
    rocm: tuple[int, ...] | None = None


class Remedy(Struct, frozen=True):
    """``command`` is what to type, in a POSIX shell or, on Windows, in PowerShell; ``needs`` what has to be on the
    machine for it, None if nothing has; ``backend`` ggml's name for what the build then drives GPUs with."""

    command: str
    needs: str | None = None
    backend: str | None = None

    @property
    def compiles(self) -> bool:
        """Whether it builds from source, which takes minutes, in place of fetching a wheel."""
        return NO_WHEEL in self.command


def installed(host: Host) -> Installed:
    """The interpreter and libraries of this machine, or of a recorded one, whose interpreter is called python."""
    rocm = next((numbers for name in ROCM_VERSION if (numbers := version(host.read(name)))), None)
    if not host.live:
        return Installed(rocm=rocm)
    glibc = None
    if host.system == "linux":
        try:
            glibc = version((os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ")) or (0, 0)
        except (ValueError, OSError):  # musl has no such name
            glibc = (0, 0)
    return Installed(sys.executable or "python", glibc, rocm)


def main_card(machine: Machine) -> Accelerator | None:
    """The card that a build should be for if no build drives all: the discrete one with most memory."""
    return max(
        (card for card in machine.accelerators if card.driver not in VIRTUAL_MACHINE),
        key=lambda card: (card.kind is AcceleratorKind.DISCRETE, card.memory_total_bytes or 0),
        default=None,
    )


def build_for(card: Accelerator, machine: Machine, toolchain: Installed) -> Remedy | None:
    """The command that installs a build for ``card``: a wheel if there is one, else from source. None if llama.cpp has
    no backend for it, or its driver is too old (``driver_too_old``)."""
    if card.driver in VIRTUAL_MACHINE:  # passed through to a virtual machine: not usable on this host
        return None
    if machine.os.startswith(("macOS", "Darwin")):
        return _metal(machine, toolchain)
    if card.vendor == "NVIDIA":
        return _cuda(card, machine, toolchain)
    if card.vendor == "AMD":
        return _rocm(card, machine, toolchain) or vulkan(machine, toolchain)
    return vulkan(machine, toolchain) if card.vendor == "Intel" else None


def rebuild(machine: Machine, toolchain: Installed) -> Remedy:
    """The command that builds from source for this processor and, if there is one, for the discrete or unified GPU."""
    card = main_card(machine)
    build = None
    if card is not None and card.kind is not AcceleratorKind.INTEGRATED:
        build = build_for(card, machine, toolchain)
    if card is None or build is None or build.backend == "MTL":
        return Remedy(source(machine, toolchain), COMPILER)
    if build.backend == "CUDA":
        return _cuda_source(card, machine, toolchain)
    hip = _hip_source(card, machine, toolchain) if build.backend == "ROCm" else None
    return hip or _vulkan_source(machine, toolchain)


def driver_too_old(card: Accelerator, machine: Machine, *, cuda: int | None = None) -> str | None:
    """Why ``card``'s driver can't run builds for CUDA version ``cuda``; None if it can, or isn't known. The default of
    ``cuda`` is the oldest version that has code for this card."""
    if card.vendor != "NVIDIA":
        return None
    if cuda is None:
        capability = version(card.compute_capability)
        cuda = next((major for major in CAPABILITIES if _has_code(major, capability)), min(CAPABILITIES))
    given, takes = _driver(card), _takes(card)
    wanted = DRIVERS[cuda][is_windows(machine) or machine.container == "wsl"]  # WSL reports Windows's number
    old = takes is not None and takes[0] < cuda if given is None else given < (version(wanted) or ())
    if not old:
        return None
    name = f"driver {line(card.driver)}" if card.driver else "driver"
    return f"the {name} is too old: builds of llama.cpp for CUDA {cuda} need {wanted} or newer"


def newer_driver(machine: Machine) -> str:
    """How to get a newer NVIDIA driver: on Windows for WSL, on the machine that runs a container."""
    if machine.container == "wsl" or is_windows(machine):
        return "install the current driver on Windows: https://www.nvidia.com/drivers"
    if machine.container is not None:
        return "update NVIDIA's driver on the machine that runs this container"
    return "sudo ubuntu-drivers install   (elsewhere: the system's package of NVIDIA's driver)"


def _cuda(card: Accelerator, machine: Machine, toolchain: Installed) -> Remedy | None:
    capability = version(card.compute_capability)
    if (capability is not None and capability < LOWEST_CAPABILITY) or driver_too_old(card, machine):
        return None
    chosen = _cuda_wheel(card, capability, is_windows(machine))
    if chosen is None or not _has_wheels(machine, toolchain, GPU_GLIBC):
        return _cuda_source(card, machine, toolchain)
    major, minor = chosen
    if is_windows(machine):
        needs = f"the CUDA {major} toolkit, for cublas64_{major}.dll"  # looked for where CUDA_PATH says
    else:
        needs = f"libcudart and libcublas of CUDA {major}"
    return Remedy(_wheel(machine, toolchain, f"cu{major}{minor}"), _with_driver(card, needs), "CUDA")


def _cuda_source(card: Accelerator, machine: Machine, toolchain: Installed) -> Remedy:
    capability = version(card.compute_capability)
    old = capability is not None and not _has_code(13, capability)
    toolkit = "a CUDA toolkit older than 13" if old else "the CUDA toolkit"
    return Remedy(source(machine, toolchain, "-DGGML_CUDA=on"), _with_driver(card, f"{toolkit} and {COMPILER}"), "CUDA")


def _with_driver(card: Accelerator, needs: str) -> str:
    if card.api_version or version(card.driver):
        return needs
    instead = f" in place of {line(card.driver)}" if card.driver else ""  # nouveau has no CUDA
    return f"NVIDIA's driver{instead}, {needs}"


def _cuda_wheel(card: Accelerator, capability: tuple[int, ...] | None, windows: bool) -> tuple[int, int] | None:
    """The newest wheel that driver and card take. Within a CUDA version a driver runs what was built for a later minor
    one (NVIDIA, CUDA Compatibility, "Minor Version Compatibility"), so the nearest of the same one is next best."""
    takes, driver = _takes(card), _driver(card)
    if takes is None:  # not reported: by the driver's version, else what most drivers take
        taken = [major for major, oldest in DRIVERS.items() if driver and driver >= (version(oldest[windows]) or ())]
        takes = (max(taken, default=12), 0)
    for major in sorted((major for major in CAPABILITIES if major <= takes[0]), reverse=True):
        if _has_code(major, capability):
            wheels = [cuda for cuda in CUDA_WHEELS if cuda[0] == major and not (windows and cuda in NOT_ON_WINDOWS)]
            return next((cuda for cuda in wheels if cuda <= takes), wheels[-1])
    return None


def _has_code(major: int, capability: tuple[int, ...] | None) -> bool:
    """Whether wheels for CUDA version ``major`` have code that runs on a card of that compute capability."""
    lowest, highest = CAPABILITIES[major]
    return capability is None or (capability >= lowest and (highest is None or capability <= highest))


def _driver(card: Accelerator) -> tuple[int, ...] | None:
    numbers = version(card.driver)
    return None if numbers is None or numbers < SMALLEST_DRIVER else numbers


def _rocm(card: Accelerator, machine: Machine, toolchain: Installed) -> Remedy | None:
    """A build for ROCm; None if ROCm isn't installed or doesn't support the card (Vulkan then needs much less)."""
    if is_windows(machine):
        if card.architecture in HIP_RADEON_TARGETS and _has_wheels(machine, toolchain, None):
            return Remedy(_wheel(machine, toolchain, "hip-radeon"), "AMD's current driver", "ROCm")
        return None
    if toolchain.rocm is None or toolchain.rocm < OLDEST_ROCM or card.architecture not in ROCM_TARGETS:
        return None
    if ROCM_WHEEL <= toolchain.rocm < (ROCM_WHEEL[0] + 1,) and _has_wheels(machine, toolchain, GPU_GLIBC):
        return Remedy(_wheel(machine, toolchain, f"rocm{ROCM_WHEEL[0]}{ROCM_WHEEL[1]}"), None, "ROCm")
    return _hip_source(card, machine, toolchain)


def _hip_source(card: Accelerator, machine: Machine, toolchain: Installed) -> Remedy | None:
    """For all of the machine's AMD cards that are of a known kind; None where ``card`` is not."""
    named = {gpu.architecture or "" for gpu in machine.accelerators if gpu.vendor == "AMD"}
    targets = sorted(name for name in named if re.fullmatch("gfx[0-9a-f]{3,4}", name))
    if is_windows(machine) or card.architecture not in targets:
        return None
    compiler = 'HIPCXX="$(hipconfig -l)/clang" HIP_PATH="$(hipconfig -R)"'  # llama.cpp's docs/build.md
    command = source(machine, toolchain, f"-DGGML_HIP=on -DAMDGPU_TARGETS={';'.join(targets)}")
    return Remedy(f"{compiler} {command}", "ROCm with its development packages", "ROCm")


def vulkan(machine: Machine, toolchain: Installed) -> Remedy:
    if not _has_wheels(machine, toolchain, VULKAN_GLIBC):
        return _vulkan_source(machine, toolchain)
    needs = None if is_windows(machine) else VULKAN_LIBRARIES
    return Remedy(_wheel(machine, toolchain, "vulkan"), needs, "Vulkan")


def _vulkan_source(machine: Machine, toolchain: Installed) -> Remedy:
    needs = f"{COMPILER} and the Vulkan SDK" if is_windows(machine) else VULKAN_TOOLS
    return Remedy(source(machine, toolchain, "-DGGML_VULKAN=on"), needs, "Vulkan")


def _metal(machine: Machine, toolchain: Installed) -> Remedy:
    """A build with Metal: the wheel on Apple chips, else from source, where CMake turns Metal on for every Mac."""
    if machine.cpu.arch == "arm64":
        return Remedy(_wheel(machine, toolchain, "metal"), None, "MTL")
    return Remedy(source(machine, toolchain), COMPILER, "MTL")


def _takes(card: Accelerator) -> tuple[int, ...] | None:
    """The version of CUDA that the driver takes, from "CUDA 12.4"."""
    name, _, number = (card.api_version or "").partition(" ")
    return version(number) if name == "CUDA" else None


def _has_wheels(machine: Machine, toolchain: Installed, glibc: tuple[int, int] | None) -> bool:
    fits = glibc is None or toolchain.glibc is None or is_windows(machine) or toolchain.glibc >= glibc
    return fits and machine.cpu.arch.lower() in WHEEL_MACHINES


def _wheel(machine: Machine, toolchain: Installed, index: str) -> str:
    return _pip(machine, toolchain, "--only-binary", PACKAGE, "--index-url", f"{INDEX}/{index}")


def source(machine: Machine, toolchain: Installed, flags: str = "") -> str:
    command = _pip(machine, toolchain, NO_WHEEL, PACKAGE)
    if not flags:
        return command
    return f'$env:CMAKE_ARGS = "{flags}"; {command}' if is_windows(machine) else f'CMAKE_ARGS="{flags}" {command}'


def _pip(machine: Machine, toolchain: Installed, *options: str) -> str:
    """``--no-cache-dir``: pip keeps what it built under the version alone, whatever it was built with."""
    words: Sequence[str] = ("-m", "pip", "install", "--force-reinstall", "--no-deps", "--no-cache-dir", *options)
    return f'{program(toolchain.python, machine)} {" ".join(words)} "{REQUIREMENT}"'


def program(executable: str, machine: Machine) -> str:
    if not is_windows(machine):
        return shlex.quote(executable)
    plain = re.fullmatch(r"[\w.:\\/-]+", executable)
    return executable if plain else "& '" + executable.replace("'", "''") + "'"


def is_windows(machine: Machine) -> bool:
    return machine.os.startswith("Windows")


def version(text: str | None) -> tuple[int, ...] | None:
    """The numbers at the beginning: "535.183.01" is (535, 183, 1). None if there are none."""
    match = re.match(r"[0-9]{1,6}(\.[0-9]{1,6})*", (text or "").strip())
    return tuple(int(part) for part in match[0].split(".")) if match else None
