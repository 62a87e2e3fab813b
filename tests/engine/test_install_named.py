"""Builds by their names x cards: whether there is a command, and why it compiles."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmctl.engine.install import Installed
from llmctl.engine.install.named import remedy_named, why_compiled
from llmctl.types.engine_name import BuildName
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, Machine, Memory

NEW, OLD, MUSL = Installed(glibc=(2, 39)), Installed(glibc=(2, 31)), Installed(glibc=(0, 0))


def card(vendor: str, **facts: str) -> Accelerator:
    return Accelerator("0000:01:00.0", "card", vendor, AcceleratorKind.DISCRETE, 8 << 30, None, **facts)  # type: ignore[arg-type]


NVIDIA = card("NVIDIA", driver="570.86.10", api_version="CUDA 12.8", compute_capability="8.9")
INTEL = card("Intel", driver="i915")


def machine(*cards: Accelerator, arch: str = "x86_64") -> Machine:
    return Machine(Memory(32 << 30, 20 << 30), Cpu("cpu", arch, 8, 16, 8), accelerators=cards, os="Linux 6.8")


@pytest.mark.parametrize(
    ("name", "here", "words"),
    [
        (BuildName.CUDA, machine(NVIDIA), "whl/cu125"),
        (BuildName.VULKAN, machine(NVIDIA), "whl/vulkan"),
        (BuildName.VULKAN, machine(INTEL), "whl/vulkan"),
        (BuildName.CPU, machine(NVIDIA), "--no-binary"),
        (BuildName.CUDA, machine(INTEL), None),
        (BuildName.VULKAN, machine(), None),
        (BuildName.METAL, machine(NVIDIA), None),
        (BuildName.VULKAN, machine(replace(INTEL, driver="vfio-pci")), None),
    ],
)
def test_which_build_there_is(name: BuildName, here: Machine, words: str | None) -> None:
    remedy = remedy_named(name, here, NEW)
    assert (remedy is None) if words is None else (remedy is not None and words in remedy.command)


@pytest.mark.parametrize(
    ("here", "toolchain", "words"),
    [
        (machine(NVIDIA, arch="aarch64"), NEW, "made for x86_64 alone, and this is aarch64"),
        (machine(NVIDIA), OLD, "need glibc 2.35, and this system has glibc 2.31"),
        (machine(NVIDIA), MUSL, "this system has another C library"),
    ],
)
def test_why_it_is_compiled(here: Machine, toolchain: Installed, words: str) -> None:
    remedy = remedy_named(BuildName.CUDA, here, toolchain)
    assert remedy is not None and remedy.compiles
    assert words in why_compiled(BuildName.CUDA, here, toolchain)
