"""Room for models."""

from __future__ import annotations

from pathlib import Path

from llmctl.host import Host
from llmctl.types.machine import Disk


def disk(host: Host, store: Path) -> tuple[Disk | None, tuple[str, ...]]:
    """Free bytes and kind of the filesystem that holds ``store``, or will when it is made."""
    found = host.filesystem(store)
    if found is None:
        return None, (f"free space for {store} can't be read",)
    return Disk(path=str(store), free_bytes=found.free_bytes, filesystem=found.kind), ()
