"""How long a transfer goes on asking a server that fails."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llmctl import net
from llmctl.errors import CertificateError, NetworkError

if TYPE_CHECKING:
    import requests

FIRST_TRIES = 2  # before the first byte: a person waits for the error
TRIES = 5
WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0)
LONGEST_WAIT_S = 60.0


class PermanentError(NetworkError):
    """An answer that asking again won't change."""


class ServerBusyError(NetworkError):
    """The server asks for time: ``retry_after_s`` seconds, if it says how much."""

    def __init__(self, message: str, *, retry_after_s: float | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


def busy(response: requests.Response, doing: str, *, hint: str | None = None) -> ServerBusyError | None:
    """The error of an answer that may be better later (408, 425, 429, 5xx); None for any other answer."""
    host, status = net.host_of(response.url), response.status_code
    if status not in (408, 425, 429) and status < 500:
        return None
    wait_s = net.retry_after_s(response.headers)
    when = "" if wait_s is None else f" and asks to wait {wait_s:.0f} s"
    why = " (too many requests)" if status == 429 else ""
    return ServerBusyError(
        f"{doing}: {host} answers {status}{why}{when}", retry_after_s=wait_s, hint=hint if status == 429 else None
    )


class RetryBudget:
    """A number of retries with growing waits, restored after progress."""

    def __init__(self) -> None:
        self.left = FIRST_TRIES
        self.failures = 0

    def refill(self) -> None:
        self.left = TRIES
        self.failures = 0

    def next_wait_s(self, error: NetworkError) -> float:
        """Seconds to wait before the next try. Raises ``error`` if none is left, or if it can't help."""
        asked_s = error.retry_after_s if isinstance(error, ServerBusyError) else None
        if isinstance(error, PermanentError | CertificateError) or not self.left or (asked_s or 0.0) > LONGEST_WAIT_S:
            raise error
        own_s = WAITS_S[min(self.failures, len(WAITS_S) - 1)]
        self.left -= 1
        self.failures += 1
        return own_s if asked_s is None else asked_s

    def wait(self, error: NetworkError) -> None:
        """Waits before the next try. Raises ``error`` if none is left, or if it can't help."""
        time.sleep(self.next_wait_s(error))
