"""The settings as every verb loads them."""

from __future__ import annotations

from llmctl import settings
from llmctl.settings import Settings
from llmctl.types.listener import Listener


def load(listener: Listener) -> Settings:
    """The settings; which file was passed over is told as a warning. Raises ConfigError."""
    loaded = settings.load()
    for warning in loaded.warnings:
        listener.warn(warning)
    return loaded
