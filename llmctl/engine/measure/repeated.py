"""Measures kernels that are known once more, at another time: on a virtual machine they may have another speed then."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from llmctl.engine.measure import kernels, times
from llmctl.files import measured_cache
from llmctl.host import Host
from llmctl.planner import kernel_rows
from llmctl.planner.drift import ENOUGH
from llmctl.struct import asdict
from llmctl.types.kernels import Kernels
from llmctl.types.machine import EngineInfo, Machine

SAMPLE_TYPES = ("Q4_K", "Q8_0")  # that are measured again, for the others
SAMPLE_S = 0.4
APART_S = 60.0  # a neighbour comes or goes within minutes
FASTER = 1.1  # than at any time before: the others will be, too


def is_due(machine: Machine, rates: Kernels) -> bool:
    """Whether the kernels of a virtual machine were measured too few times to know how far its speed goes."""
    if machine.virtual_machine is None or not 0 < len(rates.times) < ENOUGH:
        return False
    last = datetime.fromisoformat(rates.times[-1].date)
    return not 0 <= (datetime.now(UTC) - last).total_seconds() < APART_S


def repeat(host: Host, machine: Machine, engine: EngineInfo, rates: Kernels) -> Kernels:
    """``rates`` with those of some kernels at this time, of all where these are FASTER than ever before; remembered.
    Raises EngineError."""
    left_out = [
        kernels.identity(group, row)
        for group in kernel_rows.ROWS
        for row in getattr(rates, group)
        if group != "matrices" or row.weight_type not in SAMPLE_TYPES or row.threads != machine.cpu.usable_threads
    ]
    question = kernels.question_of(machine, SAMPLE_TYPES, left_out, SAMPLE_S)
    new = kernels.asked(host, question, kernels.DEADLINE_S, kernels.KERNELS)
    if (beside := times.shares(new, rates)) is not None and max(beside) > FASTER:
        types = list(dict.fromkeys(row.weight_type for row in rates.matrices))
        question = kernels.question_of(machine, types, (), kernels.QUICK_S)
        new = kernel_rows.joined(new, kernels.asked(host, question, kernels.DEADLINE_S, kernels.KERNELS))
    fastest = kernel_rows.joined(rates, new)
    together = replace(fastest, date=rates.date, times=times.with_time(rates, new, fastest, kernels.now()))
    measured_cache.write(kernels.SUBJECT, kernels.key_of(machine, engine), asdict(together))
    return together
