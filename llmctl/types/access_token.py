"""A token of the gateway, as it is kept."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

PREFIX = "llmctl-"  # by which people, and programs that look for secrets in texts, know what it is
TIME = "%Y-%m-%dT%H:%M:%SZ"


class AccessToken(Struct, frozen=True):
    """What is kept of one token: its ``sha256``, never the token. Times are UTC, "2026-01-02T03:04:05Z"; without
    ``expires`` it is good until it is revoked. Without ``models`` it may use all; a limit of None is none."""

    name: str
    sha256: str
    created: str
    expires: str | None = None
    models: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def has_expired(self, now: datetime | None = None) -> bool:
        return self.expires is not None and (now or datetime.now(UTC)).strftime(TIME) >= self.expires
