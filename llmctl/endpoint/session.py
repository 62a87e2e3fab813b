"""The session by which an address is asked: sealed where its endpoint has a key for that, never in clear then."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmctl import net
from llmctl.errors import UsageError
from llmctl.types.endpoint import Address

if TYPE_CHECKING:
    from llmctl.endpoint.sealed_session import SealedSession
    from llmctl.net.connection import HttpSession

EXTRA = 'pip install "llmctl[sealed]"'


def session_to(
    address: Address, timing: net.Timing, on_sent: Callable[[int], None] | None = None
) -> HttpSession | SealedSession:
    """Raises UsageError where sealing is not installed, and ConfigError for a CA file or a key that is none."""
    made = net.session(address.url, trust=address.trust, proxy=address.proxy, timing=timing, on_sent=on_sent)
    if address.seal is None:
        return made
    require_sealing()
    from llmctl.endpoint.sealed_session import SealedSession

    return SealedSession(made, address.seal)


def sealed_for(address: Address) -> str | None:
    """The fingerprint of the key that requests are sealed for, None where they aren't. Raises ConfigError."""
    from llmctl.endpoint.seal_pins import current

    return None if address.seal is None else current(address.seal).fingerprint


def require_sealing() -> None:
    """Raises UsageError where the extra is not installed."""
    try:
        import pyhpke  # noqa: F401
    except ImportError as error:
        raise UsageError("sealing needs pyhpke, which is not installed", hint=EXTRA) from error
