"""``llmctl doctor``: what this machine is, and what to mend."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl import paths, units
from llmctl.cli import complete
from llmctl.cli.output import Output, colour
from llmctl.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from llmctl.engine.checks import Check, Surroundings
    from llmctl.types.machine import Accelerator, EngineInfo, Machine

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
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too, for CI.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every check, not only what to mend.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show what this machine is and what to mend.

    \b
    Examples:
      llmctl doctor
      llmctl doctor --json > machine.json      a document for --machine
      llmctl doctor --strict                   for CI

    The first time, the speed of the engine's kernels is measured (some two seconds) and kept in the cache folder;
    nothing else is written and nothing leaves. Exit codes: 0 healthy, a machine without a GPU too; 8 no engine can be
    used; 10 a setting is wrong; with --strict also 7, 8 or 10 for the first warning.
    """
    from llmctl.cli import situation
    from llmctl.engine.checks import blocking, checks, machine_checks

    out = Output("doctor", as_json=json)
    engines: tuple[EngineInfo, ...] = ()
    if machine is not None:
        if measure:
            raise UsageError("a described machine can't be measured", hint=f"llmctl doctor --machine {machine}")
        from llmctl.probe.document import read_machine

        shown = read_machine(machine, paths.profiles_dir() / "machines")
        found = machine_checks(shown)
    else:
        store = paths.hub_cache()
        shown, engines = situation.this_machine(out, thorough=True, again=measure)
        found = checks(shown, engines, _surroundings(store))
    error = blocking(found, strict=strict)
    data = {"machine": shown, "engines": engines, "checks": found}
    if error is not None:
        if json:
            out.failed(error, data)
    else:
        out.data(data)
    _show(out, shown, engines, found, verbose=verbose)
    if error is not None:
        raise typer.Exit(error.exit_code)


def _surroundings(store: Path) -> Surroundings:
    from llmctl import settings
    from llmctl.engine.checks import Surroundings

    file = paths.config_file()
    threads = wrong = hint = None
    try:
        threads = settings.load().threads
    except ConfigError as error:
        wrong, hint = error.message, error.hint
    try:
        mode = file.stat().st_mode & 0o777 if os.name == "posix" else None
    except OSError:
        mode = None
    there = next((place for place in (store, *store.absolute().parents) if os.path.exists(place)), store)  # noqa: PTH110  pathlib's raises
    return Surroundings(
        store=store,
        store_writable=there.is_dir() and os.access(there, os.W_OK | os.X_OK),
        config_file=file,
        config_mode=mode,
        config_error=wrong,
        config_hint=hint,
        threads=threads,
    )


def _show(
    out: Output, machine: Machine, engines: Sequence[EngineInfo], found: Sequence[Check], *, verbose: bool
) -> None:
    """One screen: what it is, then what to mend; what is in order is only counted."""
    if out.as_json:
        return
    for label, parts in _facts(machine, engines):
        whole = (part.replace(" ", UNBROKEN) if len(part) <= LONGEST_WHOLE else part for part in parts)
        out.text(_wrapped(label.ljust(LABEL), " · ".join(whole), LABEL).replace(UNBROKEN, " "))
    out.text("")
    for check in found:
        if verbose or check.status != "ok":
            _finding(out, check.status, check.message)
            if check.remedy:
                out.text(f"       → {check.remedy}")
    fine = sum(check.status == "ok" for check in found)
    if not verbose and fine:
        more = "more checks" if fine < len(found) else "checks"
        _finding(out, "ok", f"{fine} {more}   (llmctl doctor --verbose)")


def _facts(machine: Machine, engines: Sequence[EngineInfo]) -> list[tuple[str, list[str]]]:
    cpu, memory = machine.cpu, machine.memory
    usable = f", {cpu.usable_threads} usable" if cpu.usable_threads < cpu.physical_cores else ""
    cores = (
        f"{cpu.physical_cores} {'core' if cpu.physical_cores == 1 else 'cores'}{usable} ({cpu.logical_cores} threads)"
    )
    this = [cpu.name, cores, instructions(cpu.features), machine.os, machine.container or ""]
    amounts = [f"{units.size(memory.total_bytes)}, {units.size(memory.available_bytes)} free"]
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
    return rows


def _card(card: Accelerator) -> list[str]:
    memory = []
    if card.memory_total_bytes is not None:
        free = f", {units.size(card.memory_free_bytes)} free" if card.memory_free_bytes is not None else ""
        memory = [units.size(card.memory_total_bytes) + free]
    state = "usable" if card.usable else f"not usable: {card.why}"
    backend = f" ({card.engine_backend})" if card.usable and card.engine_backend else ""
    return [card.name, *memory, state + backend]


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
    home = str(Path.home())
    return "~" + path[len(home) :] if path == home or path.startswith(home + os.sep) else path


def _wrapped(first: str, text: str, indent: int) -> str:
    lines = textwrap.wrap(text, WIDTH - indent, break_long_words=False, break_on_hyphens=False) or [""]
    return first + ("\n" + " " * indent).join(lines)


def _finding(out: Output, status: str, message: str) -> None:
    """Colour on the one word, and only where there is colour: rich takes a fifth of doctor's time."""
    text = _wrapped("", message, 7)
    if colour(sys.stdout):
        from rich.text import Text

        line = Text.assemble(" ", (f"{status:<5}", STYLES[status]), " ", text)
        out.console().print(line, soft_wrap=True)
    else:
        out.text(f" {status:<5} {text}")
