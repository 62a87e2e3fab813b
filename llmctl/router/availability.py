"""Which of several endpoints is asked first, and which is left alone for a while: pure functions of what was seen.

An endpoint that fails MOST_FAILURES times in a row rests, each time for twice as long. When that is over one call asks
it, the others leave it alone until they know how that went. Endpoints that serve the same model at the same priority
are a pool: the least busy is asked first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from msgspec import Struct
from msgspec.structs import replace

from llmctl import units
from llmctl.types.endpoint import Endpoint

MOST_FAILURES = 2
FIRST_REST_S = 30.0
LONGEST_REST_S = 600.0
PROBE_S = 60.0  # one that dies while it asks keeps the others from asking no longer than this


class Availability(Struct, frozen=True):
    """What is known of an endpoint. ``failures``: in a row, the last of which was ``why``; it rests until
    ``rests_until_s``, and until ``probed_until_s`` a call looks whether it answers again (seconds since 1970).
    ``busy``: how many prompts of ours it answers now."""

    failures: int = 0
    why: str = ""
    rests_until_s: float = 0.0
    probed_until_s: float = 0.0
    busy: int = 0

    def rests(self, now_s: float) -> bool:
        """Whether it is left alone. A time further away than any rest is of a clock that was set back."""
        left_s = max(self.rests_until_s, self.probed_until_s) - now_s
        return 0 < left_s <= LONGEST_REST_S

    def failed(self, why: str, now_s: float, retry_after_s: float | None = None) -> Availability:
        """After another failure; ``retry_after_s`` is what the server itself asks for."""
        failures = self.failures + 1
        doubled = min(max(0, failures - MOST_FAILURES), 10)
        rest_s = FIRST_REST_S * 2**doubled if failures >= MOST_FAILURES else 0.0
        rest_s = min(max(rest_s, retry_after_s or 0.0), LONGEST_REST_S)
        until_s = now_s + rest_s if rest_s else 0.0
        return replace(self, failures=failures, why=why, rests_until_s=until_s, probed_until_s=0.0)

    def probed(self, now_s: float) -> Availability:
        """Asked by a call after a rest; one that has not rested yet is asked by as many as like."""
        return replace(self, probed_until_s=now_s + PROBE_S) if self.failures >= MOST_FAILURES else self

    def words(self, now_s: float) -> str:
        """Why it is left alone, to go on from its name."""
        again_s = units.seconds(max(self.rests_until_s, self.probed_until_s) - now_s)
        times = "once" if self.failures == 1 else f"{self.failures} times in a row"
        return f"failed {times} ({self.why}), it is asked again in {again_s}"


Availabilities = Mapping[str, Availability]
"""What is known of endpoints, by their names; of one that isn't there nothing bad is."""
UNKNOWN = Availability()


def ordered(endpoints: tuple[Endpoint, ...], seen: Availabilities) -> tuple[Endpoint, ...]:
    """The endpoints as they are to be asked: by priority, and of a pool the least busy first."""
    by_priority = sorted(endpoints, key=lambda endpoint: -endpoint.priority)
    return tuple(
        endpoint
        for _, level in groupby(by_priority, key=lambda endpoint: endpoint.priority)
        for endpoint in _by_load(tuple(level), seen)
    )


def _by_load(level: tuple[Endpoint, ...], seen: Availabilities) -> Iterator[Endpoint]:
    for model in dict.fromkeys(endpoint.model for endpoint in level):
        pool = [endpoint for endpoint in level if endpoint.model == model]
        yield from sorted(pool, key=lambda endpoint: seen.get(endpoint.name, UNKNOWN).busy)


def is_pooled(endpoint: Endpoint, endpoints: tuple[Endpoint, ...]) -> bool:
    """Whether another of ``endpoints`` shares its work."""
    return any(
        (other.model, other.priority) == (endpoint.model, endpoint.priority) and other.name != endpoint.name
        for other in endpoints
    )


def resting(endpoints: tuple[Endpoint, ...], seen: Availabilities, now_s: float) -> Mapping[str, str]:
    """The names of those that are left alone, with the words why."""
    return {
        endpoint.name: seen[endpoint.name].words(now_s)
        for endpoint in endpoints
        if endpoint.name in seen and seen[endpoint.name].rests(now_s)
    }
