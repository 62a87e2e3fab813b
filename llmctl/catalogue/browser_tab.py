"""What a model has in a browser's tab: ``profiles/browser.toml``."""

from __future__ import annotations

from pathlib import Path

from llmctl.files.decode import Table, read_toml
from llmctl.types.browser_tab import BrowserTab, TabMeasurement


def load_browser_tab(folder: Path) -> BrowserTab:
    """Out of the folder ``profiles/``. Raises ConfigError."""
    return read_toml(folder / "browser.toml", _tab)


def _tab(table: Table) -> BrowserTab:
    measured = table.structs("measured", TabMeasurement)
    table.check(bool(measured), "measured", "at least one measurement")
    return table.fill(BrowserTab, measured=measured)
