"""An engine for a plan, or, where it could not get the memory that was planned, for the next that takes less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from msgspec import Struct

from llmctl.engine.pool import Lease
from llmctl.errors import EngineError
from llmctl.types.engine import LoadedEngine
from llmctl.types.listener import Listener
from llmctl.types.plan import Fit


class LowerFit(Struct, frozen=True):
    """``change`` says what is different from the one before, to go on from "with"."""

    fit: Fit
    change: str


class StepsDown(Protocol):
    """What may be tried in place of a plan for which memory did not suffice."""

    def below(self, fit: Fit) -> Iterator[LowerFit]:
        """Plans that take less and less."""

    def hint(self, fit: Fit) -> str | None:
        """What a person may type, where it is what was asked for that takes too much."""


@contextmanager
def lent(
    fit: Fit, lease: Lease, steps_down: StepsDown | None, listener: Listener
) -> Iterator[tuple[Fit, LoadedEngine]]:
    """The engine that was loaded, and its plan; the listener hears of each step down. Raises what ``lease`` raises."""
    with ExitStack() as leases:
        yield _loaded(leases, fit, lease, steps_down, listener)


def _loaded(
    leases: ExitStack, fit: Fit, lease: Lease, steps_down: StepsDown | None, listener: Listener
) -> tuple[Fit, LoadedEngine]:
    below: Iterator[LowerFit] | None = None
    while True:
        try:
            return fit, leases.enter_context(lease(fit))
        except EngineError as error:
            if not error.lacked_memory or steps_down is None:
                raise
            below = below or steps_down.below(fit)
            lower = next(below, None)
            if lower is None:
                error.hint = steps_down.hint(fit) or error.hint
                raise
            listener.warn(f"{error.message}; it is tried with {lower.change}")
            fit = lower.fit
