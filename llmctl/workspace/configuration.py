"""The settings as every verb loads them."""

from __future__ import annotations

from llmctl import paths, settings
from llmctl.near import did_you_mean, near
from llmctl.settings import Settings
from llmctl.types.listener import Listener


def load(listener: Listener) -> Settings:
    """The settings; which file was passed over is told as a warning. Raises ConfigError."""
    loaded = settings.load()
    for warning in loaded.warnings:
        listener.warn(warning)
    if loaded.policies:
        _warn_of_tasks(listener, loaded)
    return loaded


def _warn_of_tasks(listener: Listener, loaded: Settings) -> None:
    """A policy for a task that is spelt wrongly would protect nothing."""
    from llmctl.workspace import names

    task_names = names.tasks()
    for task in sorted(set(loaded.policies) - set(task_names)):
        meant = did_you_mean(near(task, task_names))
        listener.warn(f"{paths.config_file()}: policies names a task that there is not, {task}{meant}")
