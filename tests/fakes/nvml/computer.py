"""Computers with NVIDIA's driver: files below a folder, and the stand-in library compiled."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmctl.child import Reply
from llmctl.host import Host
from llmctl.types.machine import Memory

SOURCE = Path(__file__).with_name("nvml.c")
COMPILER = shutil.which("gcc") or shutil.which("cc")
GIB = 1 << 30
MEMORY = Memory(128 * GIB, 100 * GIB)

MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.90.07  Fri May 31 09:35:42 UTC 2024\nGCC version:  gcc\n"
DRIVER = {"proc/driver/nvidia/version": MODULE, "dev/nvidiactl": ""}
UBUNTU = 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nID=ubuntu\nID_LIKE=debian\n'


@dataclass(frozen=True)
class Computer(Host):
    """Files below a folder, and children that really run."""

    def ask(self, module: str, question: Any = None, *, deadline_s: float) -> Reply:
        return Host(environ=self.environ).ask(module, question, deadline_s=deadline_s)


@dataclass(frozen=True)
class Untouched(Host):
    """Fails the test when a child is started."""

    def ask(self, module: str, question: Any = None, *, deadline_s: float) -> Reply:
        raise AssertionError(f"{module} was asked")


def put(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def build(folder: Path, *, old: bool = False) -> None:
    """Compiles the stand-in into ``folder``; ``old``: without what an old driver lacks."""
    assert COMPILER is not None
    flags = ["-Wall", "-Wextra", "-Werror", "-Wl,-soname,libnvidia-ml.so.1", *(["-DOLD_DRIVER"] if old else [])]
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([COMPILER, "-shared", "-fPIC", *flags, "-o", target, SOURCE], check=True)


def drm_card(number: int, address: str, pci_id: str, driver: str | None = None) -> dict[str, str]:
    """A card as sysfs shows it."""
    lines = ["PCI_CLASS=30000", f"PCI_ID={pci_id.upper()}", f"PCI_SLOT_NAME={address}"]
    folder = f"sys/class/drm/card{number}/device"
    return {
        f"{folder}/vendor": f"0x{pci_id.partition(':')[0]}\n",
        f"{folder}/uevent": "\n".join(([f"DRIVER={driver}"] if driver else []) + lines) + "\n",
    }


def pci_line(place: str, number: str, sizes: list[int], driver: str = "") -> str:
    """A line of /proc/bus/pci/devices, as show_device() writes it."""
    filled = (sizes + [0] * 7)[:7]
    return "\t".join([place, number, "10", *(f"{value:16x}" for value in [0] * 7 + filled), driver]) + "\n"


SETTLED = drm_card(0, "0000:0a:00.0", "10de:2204", "nvidia")
