"""The settings as every verb loads them."""

from __future__ import annotations

from llmctl import settings
from llmctl.cli.output import Output
from llmctl.settings import Settings


def load(out: Output) -> Settings:
    """The settings; which file was passed over is told as a warning. Raises ConfigError."""
    loaded = settings.load()
    for warning in loaded.warnings:
        out.warn(warning)
    return loaded
