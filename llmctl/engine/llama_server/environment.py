"""What llama-server gets of our environment."""

from __future__ import annotations

import os

from llmctl import child

OVERRIDES = ("LLAMA_", "AIP_")  # variables that set its options, open its ports or show its slots


def environment() -> dict[str, str]:
    """Nothing that changes its options."""
    mine = child.environment(os.environ)
    return {name: value for name, value in mine.items() if not name.upper().startswith(OVERRIDES)}
