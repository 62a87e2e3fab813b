"""What ``plan --count`` says of several machines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llmctl import units
from llmctl.cli.table import columns_of, wrapped
from llmctl.shell import command

if TYPE_CHECKING:
    from llmctl.types.machine import Machine
    from llmctl.types.plan import Fit
    from llmctl.workspace.capacity import Capacity

WHY = {
    "memory": "there is no memory for more contexts",
    "speed": "with more of them it is slower",
    "engine": "llama.cpp takes no more",
}


def capacity_lines(served: Capacity, choice: Fit, machine: Machine, users: int) -> Iterator[str]:
    """``users`` in all, of ``choice`` on machines like ``machine``."""
    model, context = choice.candidate.model, choice.configuration.context
    yield ""
    for text in _said(served, model.name, context, users):
        yield wrapped(text, columns_of(sys.stdout), indent=" ")
    if not served.suffices and any(card.vendor == "NVIDIA" for card in machine.accelerators):
        yield wrapped("vLLM batches wider on such GPUs:", columns_of(sys.stdout))
        options = ("--print", "ray", "--users", str(users), "--count", str(served.machines))
        yield f" {command('llmctl', 'serve', model.id, *options)}"


def _said(served: Capacity, name: str, context: int, users: int) -> Iterator[str]:
    floor = f"{units.tok_s(served.floor_tok_s)} tok/s"
    if served.machines_needed is None:
        yield f"{name} writes for nobody at {floor} on such a machine, however many there are."
        return
    people = units.number_of(served.users, "user")
    yield (
        f"One machine answers {people} at once, each at {floor} or faster in {context:,} tokens of context: "
        f"{WHY[served.limited_by]}."
    )
    most, needed = served.machines * served.users, units.number_of(served.machines_needed, "machine")
    if served.suffices:
        yield f"{users:,} users take {needed}; {served.machines:,} would do for {most:,}."
    else:
        yield f"{users:,} users take {needed}, not {served.machines:,}: more are needed from {most + 1:,} users on."
