"""How busy this machine is while a plan is made, and what speed that leaves: it changes no plan."""

from __future__ import annotations

import time

from msgspec import Struct
from msgspec.structs import replace

from llmctl.host import Host
from llmctl.planner.present import share_left
from llmctl.probe.load import load, moment
from llmctl.types.load import Load
from llmctl.types.plan import NoFit, Plan
from llmctl.workspace.situation import Situation

NOTICED = 0.85  # of the usual speed: above it nothing is said
WATCHED_S = 0.1  # to find out which program it is, where one keeps the machine busy


class Present(Struct, frozen=True):
    """``decode_tok_s`` of the choice while ``load`` stays."""

    load: Load
    decode_tok_s: float


def present(situation: Situation, answer: Plan | NoFit) -> Present | None:
    """None where the machine is quiet, isn't this one, or the choice runs on a GPU. Takes WATCHED_S where it is
    busy."""
    if situation.begun is None or isinstance(answer, NoFit) or answer.choice.gpu_layers:
        return None
    busy = load(situation.begun, moment(Host()))
    cpu = situation.machine.cpu
    if busy is None or share_left(cpu, busy) > NOTICED:
        return None
    before = moment(Host(), processes=True)
    time.sleep(WATCHED_S)
    watched = load(before, moment(Host(), processes=True))
    named = replace(busy, program=None if watched is None else watched.program)
    return Present(named, answer.choice.speed.decode_tok_s * share_left(cpu, busy))
