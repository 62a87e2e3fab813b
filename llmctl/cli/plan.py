"""``llmctl plan``: what would run here, how fast, in how much memory, and why."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.models import DIMENSIONS, SYMBOLS
from llmctl.cli.output import Output

if TYPE_CHECKING:
    from llmctl.types.model import Openness
    from llmctl.types.plan import DeviceMemory, Fit, MemoryPlan, NoFit, Plan, Rejected, Want

EXIT_NOTHING_FITS = 3
WIDTH = 80
FEW = 3  # what is not picked, unless --limit or --all
BAR_WIDTH = 36
MARKS = ("█", "▓", "▒", "░")  # weights, their copies, what is remembered, what is computed with
FREE, KEPT = "·", "-"
LEGEND = "█ weights ▓ repacked ▒ KV cache, state ░ compute · free - stays free"
BASES = {"engine": "The engine itself says so, asked without loading it", "analytic": "By formulas"}
FOREMOST = ("weights_endmodel", "datasources_basemodel", "trainingcode")  # of the dimensions of openness


class KvType(StrEnum):
    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


def plan(
    model: Annotated[
        str | None,
        typer.Argument(
            help="MODEL[:QUANT], FILE.gguf or org/name; all of the catalogue without.",
            autocompletion=complete.models,
        ),
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="What for.", autocompletion=complete.tasks)] = None,
    context: Annotated[int | None, typer.Option("--context", "-c", min=1, help="Tokens of context.")] = None,
    kv_type: Annotated[
        KvType | None, typer.Option("--kv-type", help="What the KV cache is kept in; q4_0 does harm.")
    ] = None,
    machine: Annotated[
        str | None,
        typer.Option("--machine", help="Another machine: a document or its name.", autocompletion=complete.machines),
    ] = None,
    min_tok_s: Annotated[float | None, typer.Option("--min-tok-s", min=0, help="Slowest writing to accept.")] = None,
    max_download: Annotated[str | None, typer.Option("--max-download", help="Largest download, like 5GB.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", "-t", min=1, help="Threads to decode with.")] = None,
    gpu_layers: Annotated[
        int | None, typer.Option("--gpu-layers", min=-1, help="Layers on the GPU; -1 for all of them.")
    ] = None,
    repack: Annotated[
        bool, typer.Option("--repack/--no-repack", help="A second copy of weights for the CPU's fast kernels, or none.")
    ] = True,
    limit: Annotated[int | None, typer.Option("--limit", min=0, help="How many alternatives and rejections.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything else, each with its reason.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """What would run here, how fast, in how much memory, and why.

    \b
    Examples:
      llmctl plan
      llmctl plan --task code --min-tok-s 15
      llmctl plan qwen3.5-4b          every quantization of one model
      llmctl plan ./model.gguf        a file; its header is enough
      llmctl plan org/name:Q4_K_M     a repository on the hub, by its headers
      llmctl plan --machine pi.toml   another machine

    What you ask for (--context, --kv-type, --gpu-layers) is never changed: it fits, or the gap is told. The rest gives
    way in this order: everything on the GPUs, the KV cache in f16; some experts on the CPU; the cache in q8_0; 256 or
    128 tokens computed at once instead of 512; fewer layers on the GPUs; less context than is usual for the task.

    A vision projector beside the model is counted, with what it computes an image in; llmctl run doesn't load it.

    Fetches headers only, loads nothing. The first time, the engine's kernels are measured, which takes some seconds.
    Exit codes: 0, 2 usage, 3 nothing fits, 4 no such model or file, 6 not a sound GGUF file, 10 a broken profile.
    """
    from llmctl.cli import engine_plan, situation
    from llmctl.errors import NothingFitsError
    from llmctl.store import projectors
    from llmctl.types.plan import NoFit

    out = Output("plan", as_json=json)
    allowed = None if max_download is None else _size(max_download)
    found = situation.look(out, machine=_machine(machine))
    loaded = found.settings
    explicit = model is not None
    wanted = situation.want(loaded, task=task, context=context, threads=threads, min_tok_s=min_tok_s, explicit=explicit)
    wanted = replace(
        wanted, max_download_bytes=allowed, gpu_layers=gpu_layers, kv_type=kv_type and kv_type.value, repack=repack
    )
    candidates = found.candidates(model)
    if explicit:
        candidates = [projectors.with_projector(one) for one in candidates]
    answer = found.plan(candidates, wanted) if model is None else engine_plan.plan(found, candidates, wanted)
    if isinstance(answer, NoFit) and any(one.artifact.projector_bytes for one in candidates):
        blind = engine_plan.plan(found, [projectors.without(one) for one in candidates], wanted)
        if not isinstance(blind, NoFit):
            out.warn(f"with its vision projector it doesn't fit ({answer.reason}); this is for text alone")
            answer = blind
    if isinstance(answer, NoFit):
        error = NothingFitsError(answer.reason, hint=_next_after(model, loaded.endpoints))
        if not json:
            for line in _rejections(answer.rejected[1:], len(answer.rejected) if everything else limit or 0):
                out.note(line)
            raise error
        out.data(document(answer, wanted, limit), error)
        raise typer.Exit(EXIT_NOTHING_FITS)
    out.data(document(answer, wanted, limit))
    if not json:
        for warning in answer.choice.warnings:
            out.warn(warning)
        place = "this machine" if machine is None else Path(machine).name
        for line in screen(answer, wanted, place=place, limit=limit, everything=everything):
            out.text(line)


def document(answer: Plan | NoFit, wanted: Want, limit: int | None = None) -> dict[str, Any]:
    """``data`` of ``llmctl plan --json``; ``picks`` names the model and quant of each."""
    from llmctl.planner import candidate_document
    from llmctl.types.plan import Plan

    common = {"task": wanted.task, "rejected": answer.rejected[:limit]}
    if not isinstance(answer, Plan):
        no_fit = {"reason": answer.reason, "nearest": answer.nearest}
        return {"choice": None, "picks": {}, "alternatives": [], **common, "no_fit": no_fit}
    picks = {
        name: {"model": fit.candidate.model.id, "quant": fit.candidate.artifact.quant}
        for name, fit in answer.picks.items()
    }
    alternatives = [candidate_document(fit) for fit in answer.alternatives[:limit]]
    choice = candidate_document(answer.choice)
    return {"choice": choice, "picks": picks, "alternatives": alternatives, **common, "no_fit": None}


def screen(
    answer: Plan, wanted: Want, *, place: str, limit: int | None = None, everything: bool = False
) -> Iterator[str]:
    """The lines for a person, at most WIDTH columns wide where a table's names allow it. ``place`` is the machine.

    Where one model was asked for, its files and its memory are the subject.
    """
    choice, named = answer.choice, wanted.explicit
    model = choice.candidate.model
    picks = {"best": choice} if named else answer.picks
    rooms = " and ".join(f"{units.size(row.available_bytes)} {_kind(row.device)}" for row in choice.memory.by_device)
    subject = f"{model.name if named else f'For {wanted.task}'} on {place}"
    yield from _wrapped(f"{subject}, {choice.context:,} tokens of context, {rooms} free:", "")
    yield ""
    others = answer.alternatives if named or everything else answer.alternatives[: limit or 0]
    yield from _table([*picks.items(), *(("", fit) for fit in others if not _among(fit, picks))])
    yield ""
    for name, fit in picks.items():
        yield from _wrapped(f"{name}: {fit.reasons[0]}.")
    if named:
        yield from _memory(choice.memory)
        for reason in choice.reasons[1 + len(choice.memory.by_device) :]:  # the others tell what the table shows
            yield from _wrapped(f"{reason}.")
    subjects = set() if named or everything else {fit.candidate.model.id for fit in picks.values()}
    rejected = tuple(one for one in answer.rejected if one.model not in subjects)
    yield from _rejections(rejected, len(rejected) if everything else FEW if limit is None else limit)
    yield from _wrapped(f"{_open(model.openness)} licence {(model.licence or 'unknown').removeprefix('LicenseRef-')}")
    yield from () if named else _wrapped(f"{choice.reasons[-1]}.")
    yield ""
    yield from () if named else (f" llmctl models show {model.id}",)
    artifact = choice.candidate.artifact
    name = artifact.source.file if artifact.source.repo is None else f"{model.id}:{artifact.quant}"
    yield f' llmctl run -m {name} "…"'


def _among(fit: Fit, picks: Mapping[str, Fit]) -> bool:
    return any(fit.candidate == pick.candidate for pick in picks.values())


def _wrapped(text: str, indent: str = " ") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_long_words=False)


def _kind(device: str) -> str:
    return "of memory" if device == "cpu" else f"on {device}"


def _table(rows: list[tuple[str, Fit]]) -> Iterator[str]:
    cells = [("", "pick", "model", "quant", "memory", "speed", "download")]
    for name, fit in rows:
        pace = fit.speed
        low, high = units.tok_s(pace.decode_low_tok_s), units.tok_s(pace.decode_high_tok_s)
        cells.append(
            (
                "▸" if name == "best" else "",
                name,
                fit.candidate.model.name,
                fit.candidate.artifact.quant,
                units.size(sum(row.total_bytes for row in fit.memory.by_device)),
                f"{units.tok_s(pace.decode_tok_s)} tok/s ({low}–{high})",
                _download(fit),
            )
        )
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        yield " " + " ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _download(fit: Fit) -> str:
    if fit.candidate.path is not None:
        return "here"
    seconds = "" if fit.download_s is None else f", ~{units.seconds(fit.download_s)}"
    return f"{units.size(fit.download_bytes)}{seconds}"


def _memory(memory: MemoryPlan) -> Iterator[str]:
    """What is where: a table, a bar for each device, and what of it can't be taken back."""
    names = ("", "weights", "repacked", "KV cache", "state", "compute", "total", "free")
    sizes = [(row.device, (*_parts(row), row.total_bytes, row.available_bytes)) for row in memory.by_device]
    cells = [names, *((device, *map(units.size, row)) for device, row in sizes)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    for row_cells in cells:
        yield "   " + " ".join(cell.rjust(width) for cell, width in zip(row_cells, widths, strict=True))
    yield ""
    for row in memory.by_device:
        taken = f"{units.size(row.total_bytes)} of {units.size(row.available_bytes)}"
        yield f"   {row.device.rjust(widths[0])} {_bar(row)} {taken}"
    yield f"   {LEGEND}"
    yield ""
    reserved = memory.must_fit_bytes - memory.touched_bytes
    only = f", of which {units.size(reserved)} is only reserved, for the logits of a whole batch" if reserved else ""
    yield from _wrapped(
        f"{units.size(memory.must_fit_bytes)} must fit{only}; {units.size(memory.mapped_bytes)} is mapped and can be "
        f"reclaimed. {BASES[memory.basis]}."
    )


def _parts(row: DeviceMemory) -> tuple[int, ...]:
    return row.weights_bytes, row.repacked_bytes, row.kv_bytes, row.state_bytes, row.compute_bytes


def _bar(row: DeviceMemory) -> str:
    """The device's free memory, BAR_WIDTH wide: each part with a letter of its own, so that it reads without colour.
    What is there shows, however little it is."""
    from llmctl.planner.memory import margin_bytes

    weights, repacked, kv, state, compute = _parts(row)
    whole, bar, end = max(row.total_bytes, row.available_bytes), "", 0
    for mark, size in zip(MARKS, (weights, repacked, kv + state, compute), strict=True):
        end += size
        bar += mark * max(1 if size else 0, round(BAR_WIDTH * end / whole) - len(bar))
    kept = round(BAR_WIDTH * margin_bytes(row.available_bytes) / whole) if row.available_bytes else 0
    return (bar + FREE * (BAR_WIDTH - len(bar) - kept)).ljust(BAR_WIDTH, KEPT)


def _rejections(rejected: tuple[Rejected, ...], limit: int) -> Iterator[str]:
    """One line for each model, nearest first; one for each file where all are wanted."""
    shown: set[str] = set()
    for one in rejected:
        if len(shown) >= limit:
            return
        if limit >= len(rejected) or one.model not in shown:
            shown.add(f"{one.model} {one.quant}" if limit >= len(rejected) else one.model)
            yield from _wrapped(f"Not picked: {one}.")


def _open(openness: Openness | None) -> str:
    if openness is None:
        return "Open: not graded."
    grades = ((DIMENSIONS[name], openness.grades.get(name)) for name in FOREMOST)
    return "Open: " + "  ".join(f"{words} {SYMBOLS[grade]}" for words, grade in grades if grade) + " "


def _next_after(model: str | None, endpoints: tuple[Any, ...]) -> str:
    if model is not None:
        return "llmctl plan   shows what fits here"
    return "llmctl run …   lets your server answer" if endpoints else "llmctl endpoint add NAME URL --model MODEL"


def _size(text: str) -> int:
    from llmctl.errors import UsageError
    from llmctl.units import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(f"--max-download is {text!r}, it must be a size like 5GB or 800MB") from error


def _machine(name: str | None) -> Any:
    if name is None:
        return None
    from llmctl import paths
    from llmctl.probe.document import read_machine

    return read_machine(name, paths.profiles_dir() / "machines")
