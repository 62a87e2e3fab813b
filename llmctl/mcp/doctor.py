"""The tool ``doctor``: what this machine is, and what to mend."""

from __future__ import annotations

from msgspec import Struct

from llmctl.mcp.call import CallListener
from llmctl.mcp.served_tool import ServedTool
from llmctl.types.finding import Check
from llmctl.types.machine import Accelerator, AcceleratorKind, EngineInfo
from llmctl.workspace.workspace import Workspace


class DoctorArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """There are none: it is about this machine as it is."""


class AcceleratorSummary(Struct, frozen=True):
    """``why``: for what reason the engine can't use it."""

    name: str
    vendor: str
    kind: AcceleratorKind
    memory_total_bytes: int | None
    memory_free_bytes: int | None
    usable: bool
    why: str | None


class EngineSummary(Struct, frozen=True):
    """An installed llama.cpp; ``why``: for what reason it can't be used."""

    name: str
    version: str | None
    backends: tuple[str, ...]
    usable: bool
    why: str | None


class DoctorResult(Struct, frozen=True):
    """``error`` is the first thing for which no model would run here, null on a healthy machine; each check has its
    remedy, the command to type."""

    error: str | None
    os: str
    cpu: str
    physical_cores: int
    usable_threads: int
    memory_total_bytes: int
    memory_available_bytes: int
    memory_bandwidth_bytes_per_s: float | None
    accelerators: tuple[AcceleratorSummary, ...]
    engines: tuple[EngineSummary, ...]
    store_free_bytes: int | None
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]


def doctor(asked: DoctorArguments, call: CallListener) -> DoctorResult:
    """Raises what ``Workspace.doctor`` raises."""
    report = Workspace(call).doctor()
    machine, error = report.machine, report.error(strict=False)
    return DoctorResult(
        error=None if error is None else error.message,
        os=machine.os,
        cpu=machine.cpu.name,
        physical_cores=machine.cpu.physical_cores,
        usable_threads=machine.cpu.usable_threads,
        memory_total_bytes=machine.memory.total_bytes,
        memory_available_bytes=machine.memory.available_bytes,
        memory_bandwidth_bytes_per_s=machine.memory.bandwidth_bytes_per_s,
        accelerators=tuple(map(accelerator_summary, machine.accelerators)),
        engines=tuple(map(engine_summary, report.engines)),
        store_free_bytes=None if machine.disk is None else machine.disk.free_bytes,
        checks=tuple(report.findings),
        warnings=tuple(call.warnings),
    )


def accelerator_summary(card: Accelerator) -> AcceleratorSummary:
    return AcceleratorSummary(
        card.name, card.vendor, card.kind, card.memory_total_bytes, card.memory_free_bytes, card.usable, card.why
    )


def engine_summary(engine: EngineInfo) -> EngineSummary:
    return EngineSummary(engine.name, engine.version, engine.backends, engine.usable, engine.why)


TOOL = ServedTool(
    name="doctor",
    title="What this machine is",
    description=(
        "This machine's processor, memory, graphics and engines as a language model sees them, and what to mend. "
        "Servers that the user has added are asked whether they answer, unless the policy is local-only."
    ),
    arguments=DoctorArguments,
    result=DoctorResult,
    answer=doctor,
    asks_servers=True,
)
