"""Doctor's findings, each with the command that mends it: pure functions of what was probed."""

from __future__ import annotations

from collections.abc import Sequence

from llmctl.checks import engine, machine, memory_drift, network, storage
from llmctl.checks.machine import checks as machine_checks
from llmctl.checks.surroundings import Surroundings
from llmctl.errors import AccessError, ConfigError, EngineError, LlmctlError, NetworkError, ResourceError
from llmctl.types.finding import Check, Status
from llmctl.types.machine import EngineInfo, Machine

__all__ = ["Check", "Status", "Surroundings", "blocking", "checks", "machine_checks"]

# The error of a finding that decides the exit code; ResourceError for those that are not listed.
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
        *machine.checks(probed, around.threads),
        *storage.checks(probed, around),
        *memory_drift.checks(around.runs),
        *network.checks(around),
    )


def blocking(findings: Sequence[Check], *, strict: bool) -> LlmctlError | None:
    """The error for the first failed check, with ``strict`` also for the first warning; None if all is well."""
    counted = [Status.FAIL, *([Status.WARN] if strict else [])]
    for status in counted:
        for check in findings:
            if check.status is status:
                return ERRORS.get(check.id, ResourceError)(check.message, hint=check.remedy)
    return None
