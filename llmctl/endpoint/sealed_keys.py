"""Whether a server opens what is sealed for its pinned key."""

from __future__ import annotations

from urllib.parse import urljoin

from llmctl import net
from llmctl.endpoint import seal_pins
from llmctl.endpoint.session import session_to
from llmctl.errors import SealError
from llmctl.sealed.key_configuration import KeyConfiguration
from llmctl.sealed.names import KEYS, PATH
from llmctl.types.endpoint import Address, Seal

TIMING = net.Timing(connect_s=2.0, idle_s=3.0, answer_s=3.0, small_s=3.0)
LIMIT_BYTES = 64 << 10
DOING = "asking for the keys"


def opened_by(address: Address, seal: Seal) -> KeyConfiguration:
    """Asks, sealed and without a token, for the server's keys, and returns the one to seal for from now on: a new one
    that the pinned one vouches for, or still the pinned one. Raises SealError, NetworkError."""
    url = urljoin(address.url, PATH)
    with (
        session_to(address, TIMING) as session,
        net.translated(url, DOING),
        session.ask("GET", url, headers={"Accept": KEYS}) as response,
    ):
        page = net.whole(response, DOING, limit_bytes=LIMIT_BYTES)
    key = seal_pins.current(seal)
    if response.status_code != 200 or key.encoded() not in page:
        raise SealError(f"{net.host_of(url)} opens what is sealed, and doesn't list the key that it is sealed for")
    return key
