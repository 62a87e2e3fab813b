"""Which disk the store is on, so that one which isn't mounted today is told from a store that is new."""

from __future__ import annotations

import json
import os
import shlex
from contextlib import suppress
from pathlib import Path

from llmctl import paths
from llmctl.errors import ResourceError

MAX_RECORD_BYTES = 1 << 20


def check(root: Path) -> None:
    """Remembers which disk ``root`` is on; or, if it isn't there, raises ResourceError if that disk isn't mounted now:
    a new store in its place would hide the models, and fill the wrong disk."""
    known = _read()
    at = known.get(str(root))
    if not os.path.lexists(root):
        if at is not None and not Path(at).is_mount():
            raise ResourceError(
                f"the models are in {root}, and {at} is not mounted",
                hint=f"mount it; or, if it is gone for good: mkdir -p {shlex.quote(str(root))}",
            )
        return
    place = Path(os.path.realpath(root))
    now = next((str(one) for one in (place, *place.parents) if one.is_mount()), place.anchor)
    if now != at and (at is not None or now != place.anchor):
        _write({**known, str(root): now})


def _write(known: dict[str, str]) -> None:
    """Who can't write it down does without."""
    record = _record()
    with suppress(OSError):
        record.parent.mkdir(parents=True, exist_ok=True)
        beside = record.with_name(f".{os.urandom(4).hex()}.new")
        beside.write_text(json.dumps(known), "utf-8")
        beside.replace(record)


def _read() -> dict[str, str]:
    try:
        with _record().open("rb") as file:
            told = json.loads(file.read(MAX_RECORD_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(root): at for root, at in told.items() if isinstance(at, str)} if isinstance(told, dict) else {}


def _record() -> Path:
    return paths.data_dir() / "mounts.json"
