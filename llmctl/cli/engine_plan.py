"""A plan for files on this machine, for which the engine itself is asked what it would allocate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmctl.cli.situation import Situation
from llmctl.engine import devices
from llmctl.engine.dry_run import dry_run, remembered
from llmctl.host import Host
from llmctl.types.model import Candidate
from llmctl.types.plan import Allocation, Configuration, NoFit, Plan, Want

MOST_QUESTIONS = 3  # where the engine takes more than the formulas say, other settings are chosen, and asked about


def plan(found: Situation, candidates: Sequence[Candidate], wanted: Want, *, ask: bool = True) -> Plan | NoFit:
    """As ``Situation.plan``, but the choice has the engine's own figures where it can give them: its file is here, and
    the machine is this one. Without ``ask`` only those that it gave before."""
    engine = None if found.elsewhere else devices.startable(found.engines)
    told: dict[tuple[Path, Configuration], Allocation] = {}
    for _ in range(MOST_QUESTIONS):
        answer = found.plan(candidates, wanted, told)
        if engine is None or isinstance(answer, NoFit) or (path := answer.choice.candidate.path) is None:
            return answer
        configuration = answer.choice.configuration
        if (path, configuration) in told:
            return answer
        if ask:
            allocation, _ = dry_run(Host(), engine, path, configuration)
        else:
            allocation = remembered(Host(), engine, path, configuration)
        if allocation is None:
            return answer
        told[path, configuration] = allocation
    return found.plan(candidates, wanted, told)
