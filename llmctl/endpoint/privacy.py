"""What a server says becomes of prompts, where it says it at all, as llmctl's own gateway does (``/v1/privacy``)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from llmctl import net
from llmctl.endpoint.session import session_to
from llmctl.printable import printable
from llmctl.types.endpoint import Address

TIMING = net.Timing(connect_s=2.0, idle_s=6.0, answer_s=6.0, small_s=6.0)
LIMIT_BYTES = 1 << 20
DOING = "asking what becomes of prompts"


class GivenUp(Struct, frozen=True):
    """``why_not`` is why something is not off."""

    off: bool
    why_not: str | None = None


class EnginePrivacy(Struct, frozen=True):
    model: str
    core_dumps: GivenUp
    network: GivenUp

    def exceptions(self) -> Iterator[str]:
        for thing, given_up in (("connections", self.network), ("core dumps", self.core_dumps)):
            if not given_up.off:
                why = printable(given_up.why_not or "it doesn't say why")
                yield f"the engine of {printable(self.model)} may make {thing} ({why})"


class PrivacyStatement(Struct, frozen=True):
    """``hands_over_to`` names the servers that a prompt may go on to."""

    prompts_logged: bool
    answers_logged: bool
    prompts_kept: bool
    answers_kept: bool
    hands_over_to: tuple[str, ...] = ()
    engines: tuple[EnginePrivacy, ...] = ()

    def exceptions(self) -> Iterator[str]:
        """What is not as a private server's should be, in words that go on from "it says that"."""
        written = {
            "prompts are logged": self.prompts_logged,
            "answers are logged": self.answers_logged,
            "prompts are kept": self.prompts_kept,
            "answers are kept": self.answers_kept,
        }
        yield from (words for words, is_so in written.items() if is_so)
        if self.hands_over_to:
            yield f"prompts may go on to {printable(', '.join(self.hands_over_to))}"
        for engine in self.engines:
            yield from engine.exceptions()


def privacy(address: Address) -> PrivacyStatement | None:
    """None where the server doesn't say. Raises NetworkError."""
    url = f"{address.url.rstrip('/')}/privacy"
    with session_to(address, TIMING) as session:
        if address.token:
            session.headers["Authorization"] = f"Bearer {address.token}"
        with net.translated(url, DOING), session.ask("GET", url) as response:
            if response.status_code != 200:
                return None
            page = net.whole(response, DOING, limit_bytes=LIMIT_BYTES)
    try:
        return msgspec.json.decode(page, type=PrivacyStatement)
    except msgspec.MsgspecError:
        return None
