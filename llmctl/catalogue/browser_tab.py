"""What a model has in a browser's tab: ``profiles/browser.toml``."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from msgspec import Struct

from llmctl.files.decode import Table, read_toml


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


def load_browser_tab(folder: Path) -> BrowserTab:
    """Out of the folder ``profiles/``. Raises ConfigError."""
    return read_toml(folder / "browser.toml", _tab)


def _tab(table: Table) -> BrowserTab:
    measured = table.structs("measured", TabMeasurement)
    table.check(bool(measured), "measured", "at least one measurement")
    return table.fill(BrowserTab, measured=measured)
