"""What doctor finds: pure functions from facts to findings, each with the command that mends it."""

from __future__ import annotations

from collections.abc import Sequence

from llmctl.checks import engine, machine, memory_drift, network, storage
from llmctl.checks.surroundings import Surroundings
from llmctl.errors import AccessError, ConfigError, EngineError, LlmctlError, NetworkError, ResourceError
from llmctl.types.finding import Check, Status
from llmctl.types.machine import EngineInfo, Machine

__all__ = ["Check", "Status", "Surroundings", "blocking", "checks", "machine_checks"]

# What kind of error a finding is when it decides the exit code; every other one is a matter of resources.
ERRORS: dict[str, type[LlmctlError]] = {
    "engine": EngineError,
    "engine-cpu": EngineError,
    "gpu": EngineError,
    "gpu-driver": EngineError,
    "config": ConfigError,
    "config-permissions": ConfigError,
    "token-permissions": AccessError,
    "hub": NetworkError,
    "ca": ConfigError,
    "endpoint": NetworkError,
}


def checks(probed: Machine, engines: Sequence[EngineInfo], around: Surroundings) -> tuple[Check, ...]:
    """Every check of this machine, in the order in which a person would mend things."""
    return (
        *engine.checks(probed, engines, around.installed),
        *machine_checks(probed, around.threads),
        *storage.checks(probed, around),
        *memory_drift.checks(around.runs),
        *network.checks(around),
    )


def machine_checks(described: Machine, threads: int | None = None) -> tuple[Check, ...]:
    """The checks that make sense for any machine, described or real. ``threads`` is the user's setting."""
    return machine.checks(described, threads)


def blocking(findings: Sequence[Check], *, strict: bool) -> LlmctlError | None:
    """The error that the first failed check stands for; with ``strict`` warnings count. None on a healthy machine."""
    counted = [Status.FAIL, *([Status.WARN] if strict else [])]
    for status in counted:
        for check in findings:
            if check.status is status:
                return ERRORS.get(check.id, ResourceError)(check.message, hint=check.remedy)
    return None
