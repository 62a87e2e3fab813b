"""What psutil and cpuinfo tell where there is no /proc: ``python -m llmctl.probe.portable``.

A process of its own, because ``cpuinfo`` takes over a second and may start programs; and because what is asked that
way can be recorded.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from typing import Any

from llmctl import child
from llmctl.host import Host
from llmctl.probe.decode import MismatchError, decode

DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Portable:
    """``arch`` is the platform's word for it (AMD64, arm64); ``flags`` are cpuinfo's names of instruction sets."""

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


def portable(host: Host) -> tuple[Portable | None, str | None]:
    """What the child told; else None and why not."""
    reply = host.ask("llmctl.probe.portable", deadline_s=DEADLINE_S)
    if reply.data is None:
        return None, f"psutil {reply.why}"
    try:
        return decode(Portable, reply.data, "portable"), None
    except MismatchError as error:
        return None, str(error)


def _tell(_: Any) -> dict[str, Any]:
    import cpuinfo
    import psutil

    info: dict[str, Any] = cpuinfo.get_cpu_info()  # type: ignore[no-untyped-call]
    logical = psutil.cpu_count() or 1
    try:
        allowed = len(psutil.Process().cpu_affinity() or ())
    except AttributeError:  # macOS has no affinity
        allowed = logical
    main = psutil.virtual_memory()
    return {
        "os": f"{platform.system()} {platform.release()}".strip(),
        "arch": platform.machine() or "unknown",
        "cpu_name": str(info.get("brand_raw") or "unknown"),
        "physical_cores": psutil.cpu_count(logical=False) or logical,
        "logical_cores": logical,
        "allowed_cpus": allowed or logical,
        "flags": list(info.get("flags") or ()),
        "memory_total_bytes": main.total,
        "memory_available_bytes": main.available,
        "swap_bytes": psutil.swap_memory().total,
    }


if __name__ == "__main__":
    sys.exit(child.answer(_tell))
