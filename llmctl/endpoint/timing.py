"""How long a person waits for a server."""

from __future__ import annotations

from msgspec import Struct, field
from msgspec.structs import replace

from llmctl import net
from llmctl.types.endpoint import Limits


class ChatTiming(Struct, frozen=True):
    """Seconds. ``first_token_s``: until the first word of the answer or of its reasoning, from when the request was
    begun; comments, pings and empty events don't count as one. ``silent_s``: without a byte before that, though they
    do count as such. ``between_s``: from one word to the next.
    ``after_finish_s``: for what may follow a finish reason (usage, the end mark). ``page_s``: for the page of an error.
    ``waits_s``: for all waits between tries together, the first of which is ``back_off_s`` and the next twice that.
    """

    first_token_s: float = 600.0  # a long prompt on a slow machine is work, not a stall, if the server says so
    silent_s: float = 180.0
    between_s: float = 120.0
    after_finish_s: float = 2.0
    page_s: float = 2.0
    back_off_s: float = 0.5
    waits_s: float = 20.0
    transport: net.Timing = field(default_factory=net.Timing)


def timing_of(limits: Limits) -> ChatTiming:
    """As ``ChatTiming`` has it, but for what the endpoint's limits say."""
    usual = ChatTiming()
    return replace(
        usual,
        first_token_s=limits.first_token_s or usual.first_token_s,
        silent_s=limits.silent_s or max(usual.silent_s, limits.first_token_s or 0.0),
        between_s=limits.between_s or usual.between_s,
        transport=replace(usual.transport, connect_s=limits.connect_s or usual.transport.connect_s),
    )
