"""Addresses that answer, and which one was chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from llmctl.types.plan import Fit


class Policy(StrEnum):
    LOCAL_ONLY = "local-only"
    PREFER_LOCAL = "prefer-local"
    PREFER_REMOTE = "prefer-remote"
    REMOTE_ONLY = "remote-only"


class Side(StrEnum):
    LOCAL = "local"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A private server the user has added. ``key_env`` names the variable that holds the key, never the key.
    ``plain_http`` is the user's consent to send prompts to another machine unencrypted."""

    name: str
    url: str
    model: str
    key_env: str | None = None
    ca_file: str | None = None
    plain_http: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """An OpenAI-compatible address, near or far. ``token`` never shows in a repr, a log or an error."""

    url: str
    model: str
    token: str | None = field(default=None, repr=False)
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Local:
    """Run ``fit`` here; ``fallback`` may take over if the engine fails before the first token."""

    fit: Fit
    reason: str
    fallback: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class Remote:
    """Hand the prompt to ``endpoint``, because of ``reason``; ``fallback`` may run here if it can't be reached."""

    endpoint: Endpoint
    reason: str
    fallback: Fit | None = None


Route = Local | Remote
