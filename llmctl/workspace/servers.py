"""The user's servers as they are to be asked now: by priority, load and what has failed."""

from __future__ import annotations

import time
from collections.abc import Mapping

from msgspec import Struct

from llmctl.settings import Settings
from llmctl.types.endpoint import Endpoint


class InTurn(Struct, frozen=True):
    """``endpoints`` in the order in which they are asked; ``resting`` are the names of those that have failed lately,
    each with the words why."""

    endpoints: tuple[Endpoint, ...]
    resting: Mapping[str, str]


def may_begin_with_thoughts(endpoint: Endpoint) -> bool | None:
    """Whether the beginning of an answer may turn out to be thoughts that nothing has announced; None where the model's
    name doesn't tell."""
    from llmctl.thoughts.marks import may_be_opened_for

    return may_be_opened_for(endpoint.model)


def in_turn(settings: Settings) -> InTurn:
    """The servers of these settings."""
    if not settings.endpoints:
        return InTurn((), {})
    from llmctl.router import availability
    from llmctl.router.kept_availability import look

    seen = look(settings.endpoints)
    resting = availability.resting(settings.endpoints, seen, time.time())
    return InTurn(availability.ordered(settings.endpoints, seen), resting)
