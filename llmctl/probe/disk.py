"""Room for models."""

from __future__ import annotations

import shutil
from pathlib import Path

from llmctl.host import Host
from llmctl.types.machine import Disk


def disk(host: Host, store: Path) -> tuple[Disk | None, tuple[str, ...]]:
    """Free bytes of the filesystem that holds ``store``, or will when it is made. A recorded machine has no disk."""
    if not host.live:
        return None, ()
    for place in (store, *store.absolute().parents):
        try:
            return Disk(path=str(store), free_bytes=shutil.disk_usage(place).free), ()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            return None, (f"free space for {store} can't be read: {error}",)
    return None, (f"free space for {store} can't be read",)
