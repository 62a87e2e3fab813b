"""A gateway as a service that the system starts: its command, and what it may take, by the plan."""

from __future__ import annotations

import getpass
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from llmctl import __version__, paths, units
from llmctl.types.plan import CPU
from llmctl.workspace.serve_access import is_loopback
from llmctl.workspace.serve_plan import ServePlan

GATEWAY_BYTES = 512 << 20  # of the gateway and each engine's Python, generously: what was seen is a fifth of it
DRAIN_S = 40  # `llmctl serve` lets open answers finish for half a minute
LABEL = "llmctl-serve"
FETCHES_NOTHING = "Nothing is fetched: the models of the plan are on this machine."


class GatewayService(Struct, frozen=True):
    """``arguments`` follow ``llmctl serve``; ``memory_bytes`` is what all models that are loaded at once take of the
    machine's own memory, files that are mapped included, and the gateway; ``models`` are lines for a comment."""

    arguments: tuple[str, ...]
    models: tuple[str, ...]
    memory_bytes: int
    uses_gpu: bool
    host: str
    program: tuple[str, ...]
    user: str
    folders: tuple[Path, ...]

    @property
    def command(self) -> tuple[str, ...]:
        return (*self.program, "serve", *self.arguments)

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def memory_mi(self) -> int:
        return -(-self.memory_bytes // 2**20)

    def reasons(self) -> Iterator[str]:
        """Lines for a comment at the top."""
        yield f"llmctl {__version__} serve, by its plan for this machine:"
        yield from (f"  {line}" for line in self.models)
        yield (
            f"Memory: {units.size(self.memory_bytes)}: weights, caches and buffers of what is loaded at once, and "
            f"{units.size(GATEWAY_BYTES)} for the gateway. With less, weights are read again and again."
        )
        yield "A core dump would hold prompts: there are none."


def gateway_service(plan: ServePlan, lines: Sequence[str], arguments: Sequence[str], host: str) -> GatewayService:
    """For this user and this installation. ``lines``: the plan in words; ``arguments``: those of ``llmctl serve``."""
    names = [f"{model.name}:{model.quant}" for model in plan.models]
    own = [model.memory.get(CPU, 0) for model in plan.models]
    together = sum(own) if plan.all_together else min(sum(own), plan.budget.get(CPU, max(own)))
    gpu = any(device != CPU for model in plan.models for device in model.memory)
    program = shutil.which("llmctl")
    return GatewayService(
        tuple(arguments),
        tuple(lines) or tuple(names),
        together + GATEWAY_BYTES,
        gpu,
        host,
        (program,) if program else (sys.executable, "-m", "llmctl"),
        getpass.getuser(),
        (paths.config_file().parent, paths.data_dir(), paths.cache_dir(), paths.state_dir()),
    )
