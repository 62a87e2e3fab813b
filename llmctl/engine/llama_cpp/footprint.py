"""What a model adds to the memory of the process that runs it, told by that process. Only for the worker."""

from __future__ import annotations

import re
from pathlib import Path

from llmctl.engine.measure.ggml import DEVICE_KINDS, Ggml

STATUS = Path("/proc/self/status")
# Anonymous pages that are in memory, and those that were moved to swap: proc_pid_status(5). The peak (VmHWM) would
# count the mapped weights, and smaps_rollup walks every page of them.
ANONYMOUS = re.compile(r"^(?:RssAnon|VmSwap):\s+(\d+) kB$", re.MULTILINE)
CARD = DEVICE_KINDS.index("gpu")  # with an integrated one ("igpu") what is free is the machine's memory


class Footprint:
    """Counts from when it is made, which is before the model is loaded.

    Anonymous memory is what Linux tells of the process; it hardly ever shrinks, so one look at the end of an answer
    finds what prefill and decode have touched. Device memory is what ggml tells is free on the cards, before and
    after: what other programs take or give back meanwhile is in the difference.
    """

    def __init__(self) -> None:
        try:
            self._ggml: Ggml | None = Ggml()
        except (ImportError, OSError, RuntimeError, AttributeError):
            self._ggml = None
        self._anonymous_bytes = anonymous_bytes()
        self._free_bytes = self._free()

    @property
    def build(self) -> str | None:
        """The build of the engine, "ggml 0.25.3 d25f87b"; None where it can't be asked."""
        return self._ggml.build() if self._ggml else None

    def added(self) -> dict[str, int | None]:
        """``anonymous_bytes`` and ``device_bytes`` more than before: None where the system doesn't tell, or there is no
        card."""
        return {
            "anonymous_bytes": _more(self._anonymous_bytes, anonymous_bytes()),
            "device_bytes": _more(self._free(), self._free_bytes),
        }

    def _free(self) -> int | None:
        """Free bytes of all cards together."""
        devices = self._ggml.devices() if self._ggml else ()
        free = [props.memory_free for _, props in devices if props.type == CARD]
        return sum(free) if free else None


def _more(less: int | None, more: int | None) -> int | None:
    return None if less is None or more is None else max(0, more - less)


def anonymous_bytes() -> int | None:
    """Anonymous memory of this process; None where there is no /proc that tells of it."""
    try:
        kibibytes = ANONYMOUS.findall(STATUS.read_text("ascii", "replace"))
    except OSError:
        return None
    return sum(map(int, kibibytes)) * 1024 if kibibytes else None
