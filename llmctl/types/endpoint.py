"""Addresses that answer, and which one was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from llmctl.types.plan import Fit


class Policy(StrEnum):
    LOCAL_ONLY = "local-only"
    PREFER_LOCAL = "prefer-local"
    PREFER_REMOTE = "prefer-remote"
    REMOTE_ONLY = "remote-only"


class LeaveReason(StrEnum):
    """Every reason for which a prompt may leave this machine. A ``Remote`` route can't be made without one."""

    PINNED = "pinned"
    PREFER_REMOTE = "prefer-remote"
    REMOTE_ONLY = "remote-only"
    NOTHING_FITS = "nothing-fits"
    NOT_LOADED = "not-loaded"
    ENGINE_FAILED = "engine-failed"
    PROMPT_TOO_LONG = "prompt-too-long"

    @property
    def when(self) -> str:
        """When the prompt leaves, a sentence for a person."""
        return LEAVES[self][0]

    @property
    def decided_by(self) -> str:
        """By which act of the user's the prompt leaves."""
        return LEAVES[self][1]


ADDED = "you, by adding a server (policy `prefer-local`)"
LEAVES = {
    LeaveReason.PINNED: ("You name the server for this prompt.", "you, by `--endpoint NAME`"),
    LeaveReason.PREFER_REMOTE: (
        "Your policy asks the server first; a model on this machine answers when it can't be reached.",
        'you, by `policy = "prefer-remote"`',
    ),
    LeaveReason.REMOTE_ONLY: ("Your policy asks the server and nothing else.", 'you, by `policy = "remote-only"`'),
    LeaveReason.NOTHING_FITS: ("No model fits this machine and is fast enough for the task.", ADDED),
    LeaveReason.NOT_LOADED: ("The model that llmctl has chosen can't be loaded.", ADDED),
    LeaveReason.ENGINE_FAILED: ("The engine dies, stalls or can't decode before its first token.", ADDED),
    LeaveReason.PROMPT_TOO_LONG: ("The prompt is longer than the context that llmctl has chosen.", ADDED),
}
LOCAL_FAILURES = frozenset(
    {LeaveReason.NOTHING_FITS, LeaveReason.NOT_LOADED, LeaveReason.ENGINE_FAILED, LeaveReason.PROMPT_TOO_LONG}
)
Barred = Mapping[LeaveReason, str]
"""The reasons for which this one prompt may not leave, each with the words why."""


class Side(StrEnum):
    LOCAL = "local"
    REMOTE = "remote"


class Endpoint(Struct, frozen=True):
    """A private server the user has added. ``key_env`` names the variable that holds the key, never the key.
    ``plain_http`` is the user's consent to send prompts to another machine unencrypted."""

    name: str
    url: str
    model: str
    key_env: str | None = None
    ca_file: str | None = None
    plain_http: bool = False


class Address(Struct, frozen=True):
    """An OpenAI-compatible address, near or far. ``token`` never shows in a repr, a log or an error."""

    url: str
    model: str
    token: str | None = None
    ca_file: str | None = None

    def __repr__(self) -> str:
        return f"Address(url={self.url!r}, model={self.model!r}, ca_file={self.ca_file!r})"


class Local(Struct, frozen=True):
    """Run ``fit`` here; ``fallback`` may take over if that fails before the first token, but not for what is
    ``barred``."""

    fit: Fit
    reason: str
    fallback: Endpoint | None = None
    barred: Barred = field(default_factory=dict)


class Remote(Struct, frozen=True):
    """Hand the prompt to ``endpoint``, for the reason ``why``, told in the words ``reason``; ``fallback`` may run here
    if it can't be reached."""

    endpoint: Endpoint
    why: LeaveReason
    reason: str
    fallback: Fit | None = None


Route = Local | Remote
