"""What a model has in a browser's tab."""

from __future__ import annotations

from statistics import median

from msgspec import Struct


class TabMeasurement(Struct, frozen=True):
    """How fast one model answered in a tab and by the engine on the same machine, with as many threads."""

    model: str
    quant: str
    threads: int
    native_tok_s: float
    tab_tok_s: float
    source: str


class BrowserTab(Struct, frozen=True):
    """``memory_bytes`` is the most that an engine in a tab has, ``part_bytes`` the most of a file that it reads."""

    memory_bytes: int
    part_bytes: int
    measured: tuple[TabMeasurement, ...]

    @property
    def speed_ratio(self) -> float:
        """How fast a tab is beside the engine on the same processor: the median of what was measured."""
        return median(row.tab_tok_s / row.native_tok_s for row in self.measured)
