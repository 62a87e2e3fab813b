"""What ``llmctl plan --browser`` says of tabs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llmctl import units
from llmctl.cli.table import wrapped

if TYPE_CHECKING:
    from llmctl.types.browser_tab import BrowserTab

WIDTH = 80


def tab_lines(tab: BrowserTab) -> Iterator[str]:
    """On which figures the plan stands."""
    yield ""
    yield wrapped(
        f"A tab has {units.size(tab.memory_bytes)} for weights and context, and was {tab.speed_ratio:.2f} times as "
        "fast as the engine on the same threads:",
        WIDTH,
    )
    for row in tab.measured:
        words = f"{row.model} {row.quant}, {row.tab_tok_s:g} of {row.native_tok_s:g} tok/s ({row.source})"
        yield wrapped(f"  {words}", WIDTH, indent="  ")
