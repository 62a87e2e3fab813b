"""One call of a tool, as the workspace's listener."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence

from llmctl.errors import UsageError
from llmctl.printable import printable
from llmctl.types.endpoint import Endpoint
from llmctl.types.listener import SilentListener


class CallListener(SilentListener):
    """Collects the warnings for the result. What a client should log goes to stderr; nobody can be asked."""

    def __init__(self) -> None:
        self._warnings: list[str] = []
        self._cancelled = threading.Event()
        self.sent_to: str | None = None  # the host that the prompt was handed to

    @property
    def warnings(self) -> Sequence[str]:
        return tuple(self._warnings)

    def warn(self, text: str) -> None:
        self._warnings.append(text)

    def leaving(self, endpoint: Endpoint, host: str, reason: str) -> None:
        self.sent_to = host
        log(f"→ {endpoint.name} ({host}, {endpoint.model}): {reason}")
        if endpoint.readers:
            log(f"  who can read it there: {endpoint.readers}")

    def staying(self, reason: str) -> None:
        self.warn(f"{reason}; this machine answers instead")

    def cancel(self) -> None:
        """Nobody waits for the result any more."""
        self._cancelled.set()

    def require_wanted(self) -> None:
        """Raises UsageError once the call is cancelled."""
        if self._cancelled.is_set():
            raise UsageError("the client has cancelled the call")


def log(text: str) -> None:
    """A line on stderr, where clients look for what a server has to say."""
    sys.stderr.write(f"{printable(text, 500)}\n")
    sys.stderr.flush()
