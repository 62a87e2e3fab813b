"""How many users machines like one serve at once, by what was planned for one of them."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from llmctl.types.plan import NoFit, Plan, Want
from llmctl.workspace.situation import Situation

MOST_USERS = 256  # sequences of a context; llama.cpp's own limit


class LimitedBy(StrEnum):
    MEMORY = "memory"
    SPEED = "speed"
    ENGINE = "engine"


class Capacity(Struct, frozen=True):
    """``users`` that one machine answers at once, each in the planned context and at ``floor_tok_s`` or faster; what
    one more would lack; ``machines`` that were asked about, and how many it takes for the users asked for, None where
    one machine answers nobody fast enough."""

    users: int
    limited_by: LimitedBy
    floor_tok_s: float
    machines: int
    machines_needed: int | None

    @property
    def suffices(self) -> bool:
        return self.machines_needed is not None and self.machines_needed <= self.machines


def capacity(situation: Situation, answer: Plan, wanted: Want, machines: int, *, users: int) -> Capacity:
    """For the choice of ``answer``, and ``users`` in all."""
    floor = situation.knowledge.tasks[wanted.task].min_tok_s if wanted.min_tok_s is None else wanted.min_tok_s
    most, above = 0, MOST_USERS + 1
    limit = LimitedBy.ENGINE
    while above - most > 1:
        tried = (most + above) // 2
        lacks = _lacks(situation, answer, wanted, tried, floor)
        if lacks is None:
            most = tried
        else:
            above, limit = tried, lacks
    needed = -(-users // most) if most else None
    return Capacity(most, limit, floor, machines, needed)


def _lacks(situation: Situation, answer: Plan, wanted: Want, users: int, floor: float) -> LimitedBy | None:
    """What so many users would lack with the choice's file, settings free; None if nothing."""
    choice = answer.choice
    asked = replace(wanted, users=users, context=choice.configuration.context, explicit=True, min_tok_s=0.0)
    made = situation.plan([choice.candidate], asked)
    if isinstance(made, NoFit):
        return LimitedBy.MEMORY
    speed = made.choice.speed
    together = speed.decode_tok_s if speed.together_tok_s is None else speed.together_tok_s
    return None if together / users >= floor else LimitedBy.SPEED
