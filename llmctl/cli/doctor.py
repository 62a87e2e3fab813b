"""``llmctl doctor``: what this machine is, and what to mend."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.output import Output, colour
from llmctl.cli.table import wrapped
from llmctl.errors import UsageError
from llmctl.shell import command

if TYPE_CHECKING:
    from llmctl.types.finding import Check
    from llmctl.types.machine import Accelerator, EngineInfo, Machine
    from llmctl.workspace.examine import Report

WIDTH = 80
LABEL = 15
LONGEST_WHOLE = 45  # a part of a line that is not longer than this goes to the next line as a whole
UNBROKEN = "\N{NO-BREAK SPACE}"
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine",
            metavar="NAME|FILE",
            help="Show a described machine instead of this one.",
            autocompletion=complete.machines,
        ),
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure the engine's kernels again.")] = False,
    network: Annotated[
        bool, typer.Option("--network", help="Ask the model hub, and time a sample of a download.")
    ] = False,
    capture: Annotated[
        Path | None,
        typer.Option(
            "--capture", metavar="DIR", help="Write this machine, without names and serials, into a new folder."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too, for CI.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every check, not only what to mend.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show what this machine is and what to mend.

    \b
    Examples:
      llmctl doctor
      llmctl doctor --network               also the hub, and the way there
      llmctl doctor --json > machine.json   a document for --machine
      llmctl doctor --strict                for CI
      llmctl doctor --capture my-machine    a folder for a bug report

    The first time, the speed of the engine's usual kernels is measured (some two seconds) and kept in the cache folder;
    --measure measures all of them again (some five).
    Servers that you have added are asked whether they answer, unless the policy is local-only; nothing else leaves.
    --network asks the hub and fetches at most 17 MB of a file, two seconds long, and throws it away.

    Exit codes: 0 healthy, a machine without a GPU too; 8 no engine can be used; 10 a setting is wrong; with --strict
    also 5, 7, 8, 9 or 10 for the first warning.
    """
    from llmctl.workspace import examine

    out = Output("doctor", as_json=json)
    if machine is not None:
        if measure or network or capture:
            raise UsageError(
                "a described machine can't be measured, asked or captured",
                hint=command("llmctl", "doctor", "--machine", machine),
            )
        report = examine.examine_described(machine)
    else:
        if capture is not None:
            examine.capture(capture)
            out.note(
                f"This machine is in {capture}: no serial numbers, uuids, host or user names. "
                "Read it before you send it."
            )
        report = examine.examine(out, measure=measure, network=network)
    error = report.error(strict=strict)
    if error is not None and json:
        out.failed(error, _document(report))
    else:
        out.data(_document(report))
    _show(out, report, verbose=verbose)
    if error is not None:
        raise typer.Exit(error.exit_code)


def _document(report: Report) -> dict[str, Any]:
    """``data`` of ``llmctl doctor --json``."""
    document = {"machine": report.machine, "engines": report.engines, "checks": report.findings}
    if report.parts_s is None:
        return document
    parts_s = report.parts_s
    slowest = max(parts_s, key=lambda name: parts_s[name])
    return document | {"timings": {"total_s": sum(parts_s.values()), "slowest": slowest, "parts_s": parts_s}}


def _show(out: Output, report: Report, *, verbose: bool) -> None:
    """One screen: what it is, then what to mend; what is in order is only counted."""
    if out.as_json:
        return
    findings = report.findings
    for label, parts in _facts(report.machine, report.engines):
        whole = (part.replace(" ", UNBROKEN) if len(part) <= LONGEST_WHOLE else part for part in parts)
        out.text(wrapped(" · ".join(whole), WIDTH, first=label.ljust(LABEL), indent=" " * LABEL).replace(UNBROKEN, " "))
    out.text("")
    for check in findings:
        if verbose or check.status != "ok":
            finding(out, check)
    fine = sum(check.status == "ok" for check in findings)
    if not verbose and fine:
        more = "more checks" if fine < len(findings) else "checks"
        _finding(out, "ok", f"{fine} {more}   (llmctl doctor --verbose)")


def _facts(machine: Machine, engines: Sequence[EngineInfo]) -> list[tuple[str, list[str]]]:
    cpu, memory = machine.cpu, machine.memory
    usable = f", {cpu.usable_threads} usable" if cpu.usable_threads < cpu.physical_cores else ""
    fast = f", {cpu.performance_cores} of them fast" if cpu.performance_cores else ""
    cores = f"{units.number_of(cpu.physical_cores, 'core')}{fast}{usable}"
    cores += f" ({cpu.logical_cores} threads)"
    virtual = f"{machine.virtual_machine} virtual machine" if machine.virtual_machine else ""
    this = [machine.board or "", cpu.name, cores, instructions(cpu.features), machine.os, virtual]
    this.append(f"in {machine.container}" if machine.container else "")
    free = f"{units.size(memory.total_bytes)}, {units.size(memory.available_bytes)} free"
    amounts = [free if memory.total_bytes else "unknown"]
    if memory.bandwidth_bytes_per_s:
        basis = (memory.bandwidth_basis or "").split(" (")[0]
        amounts.append(f"{units.rate(memory.bandwidth_bytes_per_s)} {basis}".strip())
    limit = f"limited to {units.size(memory.limit_bytes)}" if memory.limit_bytes is not None else "no container limit"
    rows = [("This machine", [part for part in this if part]), ("Memory", [*amounts, limit])]
    cards = [_card(card) for card in machine.accelerators] or [["none"]]
    rows += [("Graphics" if i == 0 else "", card) for i, card in enumerate(cards)]
    rows += [("Engine", [_engine(engine)]) for engine in engines]
    if machine.disk is not None:
        rows.append(("Store", [_short(machine.disk.path), f"{units.size(machine.disk.free_bytes)} free"]))
    if machine.network.hub_reachable is not None:
        speed = machine.network.download_bytes_per_s
        reached = "hub reachable" if machine.network.hub_reachable else "hub not reachable"
        rows.append(("Network", [reached, *([units.rate(speed)] if speed else [])]))
    return rows


def _card(card: Accelerator) -> list[str]:
    memory = ["shares memory"] if card.kind != "discrete" else []
    if card.memory_total_bytes is not None:
        up_to = "up to " if memory else ""
        free = f", {units.size(card.memory_free_bytes)} free" if card.memory_free_bytes is not None else ""
        memory.append(up_to + units.size(card.memory_total_bytes) + free)
    state = "usable" if card.usable else f"not usable: {card.why}"
    backend = f" ({card.engine_backend})" if card.usable and card.engine_backend else ""
    speed = [units.rate(card.bandwidth_bytes_per_s)] if card.bandwidth_bytes_per_s else []
    return [card.name, *memory, *speed, state + backend]


def _engine(engine: EngineInfo) -> str:
    if not engine.usable:
        return f"{engine.name} · not usable: {engine.why}"
    backends = ", ".join(engine.backends)
    features = instructions(engine.features)
    return f"{engine.name} {engine.version} ({backends}{': ' + features if features else ''})"


def instructions(features: Sequence[str]) -> str:
    """The instruction sets worth naming: the widest vectors and what comes with them, "AVX512 VNNI BF16"."""
    for widest, extras in (
        ("AVX512", ("AVX512_VNNI", "AVX512_BF16", "AMX_INT8")),
        ("AVX2", ("AVX_VNNI",)),
        ("NEON", ("DOTPROD", "MATMUL_INT8", "SVE", "SME")),
    ):
        if widest in features:
            also = (extra.removeprefix("AVX512_").removeprefix("AVX_") for extra in extras if extra in features)
            return " ".join([widest, *also])
    return ""


def _short(path: str) -> str:
    home = os.path.expanduser("~")  # noqa: PTH111  pathlib raises where there is none
    return "~" + path[len(home) :] if path == home or path.startswith(home + os.sep) else path


def finding(out: Output, check: Check) -> None:
    """A line of the report, and what to type."""
    _finding(out, check.status, check.message)
    if check.remedy:
        out.text(f"       → {check.remedy}")


def _finding(out: Output, status: str, message: str) -> None:
    """Colour on the one word, and only where there is colour: rich takes a fifth of doctor's time."""
    indent = " " * 7
    text = wrapped(message, WIDTH, first=indent, indent=indent).removeprefix(indent)
    if colour(sys.stdout):
        from rich.text import Text

        line = Text.assemble(" ", (f"{status:<5}", STYLES[status]), " ", text)
        out.console().print(line, soft_wrap=True)
    else:
        out.text(f" {status:<5} {text}")
