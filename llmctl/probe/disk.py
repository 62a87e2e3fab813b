"""Room for models."""

from __future__ import annotations

from pathlib import Path

from llmctl.host import Host
from llmctl.types.machine import Disk, Note


def disk(host: Host, store: Path) -> tuple[Disk | None, tuple[Note, ...]]:
    """Free bytes and kind of the filesystem that holds ``store``, or will when it is made."""
    filesystem = host.filesystem(store)
    if filesystem is None:
        return None, (Note(f"free space for {store} can't be read", "export HF_HUB_CACHE=DIRECTORY   on another disk"),)
    return Disk(path=str(store), free_bytes=filesystem.free_bytes, filesystem=filesystem.kind), ()
