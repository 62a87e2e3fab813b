"""Where prompts may go: a word of the command line and the configuration, without the types that take time to make."""

from __future__ import annotations

from enum import StrEnum


class Policy(StrEnum):
    LOCAL_ONLY = "local-only"
    PREFER_LOCAL = "prefer-local"
    PREFER_REMOTE = "prefer-remote"
    REMOTE_ONLY = "remote-only"
