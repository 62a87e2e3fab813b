"""The command that adds an endpoint once more, with all that is kept of it."""

from __future__ import annotations

from llmctl.settings.endpoint_table import table_of
from llmctl.shell import command
from llmctl.types.endpoint import Endpoint

OPTIONS = {"key_command": "--key-cmd", "seal_pad": "--pad"}  # where it isn't called as the field is
NO_OPTION = ("url", "plain_http")
NOT_REPEATED = ("key_command",)  # a command may hold a secret


def add_command(endpoint: Endpoint, *, force: bool = True) -> str:
    """For a shell. ``force``: it replaces the endpoint, and is consent to plain http where that is the address."""
    options: list[str] = []
    for field, value in table_of(endpoint).items():
        if value is True and field not in NO_OPTION:
            options.append(f"--{field}")
        elif value and field not in NO_OPTION:
            shown = "…" if field in NOT_REPEATED else f"{value:g}" if isinstance(value, float) else str(value)
            options += [OPTIONS.get(field, f"--{field.replace('_', '-')}"), shown]
    words = ("llmctl", "endpoint", "add", *(("--force",) if force else ()), *options)
    return command(*words, names=[endpoint.name, endpoint.url])
