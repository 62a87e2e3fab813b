"""What psutil and the system's own libraries tell where there is neither /proc nor sysctl:
``python -m llmctl.probe.portable``.

A process of its own, because what it loads may hang or start programs; and because what is asked that way can be
recorded.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from llmctl import child
from llmctl.files.decode import FieldError, decode
from llmctl.host import Host
from llmctl.probe.text import MOST_CPUS, line

DEADLINE_S = 10.0
KEPT_S = 2.0  # the processor, memory and the system's name are asked one after the other; one child tells all

# What kernel32's IsProcessorFeaturePresent is asked (winnt.h), and how Linux calls it. It tells what may be used here
# and now. Windows has no number for FMA, F16C and the rest; a number that it is too old for counts as absent.
WINDOWS_FEATURES: Mapping[int, str] = {
    13: "pni",
    36: "ssse3",
    39: "avx",
    40: "avx2",
    60: "bmi2",
    41: "avx512f",
    19: "asimd",
    67: "asimdhp",
    66: "i8mm",
    46: "sve",
    43: "asimddp",
    70: "sme",
}


class Portable(Struct, frozen=True):
    """``arch`` is the platform's word for it (AMD64, arm64); ``flags`` are Linux's names of instruction sets."""

    os: str
    arch: str
    cpu_name: str
    physical_cores: int
    logical_cores: int
    allowed_cpus: int
    flags: tuple[str, ...]
    memory_total_bytes: int
    memory_available_bytes: int
    swap_bytes: int


PortableReply = tuple[Portable | None, str | None]
_last: tuple[Host, float, PortableReply] | None = None


def portable(host: Host) -> PortableReply:
    """The child's facts, not older than KEPT_S, or None and why there are none."""
    global _last
    now = time.monotonic()
    if _last is None or _last[0] is not host or now - _last[1] > KEPT_S:
        _last = (host, now, _ask(host))
    return _last[2]


def _ask(host: Host) -> PortableReply:
    reply = host.ask("llmctl.probe.portable", deadline_s=DEADLINE_S)
    if reply.data is None:
        return None, f"psutil {reply.why}"
    try:
        facts = decode(Portable, reply.data, "portable")
    except FieldError as error:
        return None, str(error)
    cores = min(max(1, facts.physical_cores), MOST_CPUS)
    logical = min(max(cores, facts.logical_cores), MOST_CPUS)
    return replace(
        facts,
        os=line(facts.os),
        arch=line(facts.arch),
        cpu_name=line(facts.cpu_name),
        physical_cores=cores,
        logical_cores=logical,
        allowed_cpus=min(max(1, facts.allowed_cpus), logical),
        memory_available_bytes=min(facts.memory_available_bytes, facts.memory_total_bytes),
    ), None


def _facts(_: Any) -> dict[str, Any]:
    import psutil

    name, flags = _windows_processor()
    if name is None:
        import cpuinfo  # over a second

        info: dict[str, Any] = cpuinfo.get_cpu_info()  # type: ignore[no-untyped-call]
        name, flags = str(info.get("brand_raw") or "unknown"), list(info.get("flags") or ())
    logical = psutil.cpu_count() or 1
    try:
        allowed = len(psutil.Process().cpu_affinity() or ())
    except AttributeError:  # macOS has no affinity
        allowed = logical
    main = psutil.virtual_memory()
    return {
        "os": _os_name(),
        "arch": platform.machine() or "unknown",
        "cpu_name": name,
        "physical_cores": psutil.cpu_count(logical=False) or logical,
        "logical_cores": logical,
        "allowed_cpus": allowed or logical,
        "flags": flags,
        "memory_total_bytes": main.total,
        "memory_available_bytes": main.available,
        "swap_bytes": psutil.swap_memory().total,
    }


def _os_name() -> str:
    """For people: "Windows 11 (10.0.26100)", "macOS 15.1", "FreeBSD 14.1-RELEASE"."""
    if sys.platform == "win32":
        return f"Windows {platform.release()} ({platform.version()})"
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}".strip()
    return f"{platform.system()} {platform.release()}".strip()


def _windows_processor() -> tuple[str | None, list[str]]:
    """The processor's name in the registry, and its instruction sets. None on other systems and where there is no
    name: PROCESSOR_IDENTIFIER in the environment has only family and model."""
    if sys.platform == "win32":
        import ctypes
        import winreg

        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key:
                name = " ".join(str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).split())
        except OSError:
            return None, []
        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        return name or None, [flag for number, flag in WINDOWS_FEATURES.items() if present(number)]
    return None, []


if __name__ == "__main__":
    sys.exit(child.answer(_facts))
