"""What ``llmctl plan`` shows a person: the picks, why they are it, which memory goes where, and what is not picked."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from llmctl import units
from llmctl.cli.models.show import SYMBOLS
from llmctl.cli.table import columns_of, table, wrapped
from llmctl.shell import command
from llmctl.types.machine import AcceleratorKind
from llmctl.types.openness import DIMENSIONS

if TYPE_CHECKING:
    from llmctl.catalogue.knowledge import Task
    from llmctl.types.machine import Machine
    from llmctl.types.model import Openness
    from llmctl.types.plan import Configuration, DeviceMemory, Draft, Fit, MemoryPlan, Plan, Rejected, Tried, Want
    from llmctl.types.speed_model import DraftForecast
    from llmctl.workspace.present import Present

WIDTH = 80
FEW = 3  # what is not picked, unless --limit or --all
BAR_WIDTH = 36
MARKS = ("█", "▓", "▒", "░")  # weights, their copies, what is remembered, what is computed with
FREE, KEPT = "·", "-"
LEGEND = "█ weights ▓ repacked ▒ KV cache, state ░ compute · free - kept free"
BASES = {"engine": "The engine itself says so, asked without loading it", "analytic": "By formulas"}
FOREMOST = ("weights_endmodel", "datasources_basemodel", "trainingcode")  # of the dimensions of openness


def screen(
    answer: Plan,
    wanted: Want,
    task: Task,
    machine: Machine,
    present: Present | None,
    *,
    place: str,
    limit: int | None = None,
    everything: bool = False,
) -> Iterator[str]:
    """The lines for a person, at most WIDTH columns wide where a table's names allow it. ``place`` is what
    the machine is called.

    Where one model was asked for, its files and its memory are the subject.
    """
    choice, named = answer.choice, wanted.explicit
    model = choice.candidate.model
    picks = {"best": choice} if named else answer.picks
    rooms = _rooms(choice.memory.by_device, machine)
    subject = f"{model.name if named else f'For {wanted.task}'} on {place}"
    yield from _wrapped(f"{subject}, {choice.context:,} tokens of context, {rooms} free:", "")
    yield ""
    others = answer.alternatives if named or everything else answer.alternatives[: limit or 0]
    yield from _table([*picks.items(), *(("", fit) for fit in others if not _among(fit, picks))], writes=task.writes)
    yield ""
    for name, fit in picks.items():
        yield from _wrapped(f"{name}: {fit.reasons[0]}.")
    if named:
        yield from _memory(choice.memory)
    label = f"{next(iter(picks))}: " if len(picks) > 1 else ""
    for reason in choice.reasons[1 + len(choice.memory.by_device) : None if named else -1]:  # the table shows these
        yield from _wrapped(f"{label}{reason}.")
    for change in answer.changes:
        fit = change.fit
        label = f"{fit.candidate.model.name} {fit.candidate.artifact.quant}"
        quality = "" if fit.quality is None else f", quality {fit.quality:.0f}"
        yield from _wrapped(f"{change.condition}: {label}{quality}, {_pace(fit, writes=task.writes)}.")
    subjects = set() if named or everything else {fit.candidate.model.id for fit in picks.values()}
    rejected = tuple(rejection for rejection in answer.rejected if rejection.model not in subjects)
    yield from rejections(rejected, len(rejected) if everything else FEW if limit is None else limit)
    yield from _wrapped(f"{_open(model.openness)} licence {(model.licence or 'unknown').removeprefix('LicenseRef-')}")
    yield from () if named else _wrapped(f"{choice.reasons[-1]}.")
    yield from _busy(present) if present is not None and task.writes else ()
    yield ""
    yield from () if named else (f" {command('llmctl', 'models', 'show', names=[model.id])}",)
    artifact = choice.candidate.artifact
    name = artifact.source.file if artifact.source.repo is None else f"{model.id}:{artifact.quant}"
    runs = task.writes and not task.sees
    yield f' {command("llmctl", "run", "-m", name)} "…"' if runs else f" {command('llmctl', 'pull', names=[name])}"


def _busy(present: Present) -> Iterator[str]:
    """That the machine is busy just now, and what that leaves."""
    yield from _wrapped(
        f"This machine is busy now: {present.load}. At present about {units.tok_s(present.decode_tok_s)} tok/s."
    )


def _among(fit: Fit, picks: Mapping[str, Fit]) -> bool:
    return any(fit.candidate == pick.candidate for pick in picks.values())


def _wrapped(text: str, indent: str = " ") -> list[str]:
    return wrapped(text, min(WIDTH, columns_of(sys.stdout)), first=indent, indent=indent + "  ").split("\n")


def _rooms(rows: Sequence[DeviceMemory], machine: Machine) -> str:
    """What is free on each device, by the name that people know it by; a GPU without its own memory has a share. Cards
    that are alike are counted: "12.9 GB on each of 2 GeForce RTX 3060"."""
    cards = {card.id: card for card in machine.accelerators}
    main = [f"{units.size(row.available_bytes)} of memory" for row in rows if row.device not in cards]
    alike = Counter((units.size(row.available_bytes), cards[row.device].name) for row in rows if row.device in cards)
    shared = {card.name for card in cards.values() if card.kind is not AcceleratorKind.DISCRETE}
    own = [(size, name, number) for (size, name), number in alike.items() if name not in shared]
    lent = "".join(f", {size} of it for the {name}," for size, name in alike if name in shared)
    words = [f"{size} on {f'each of {number}' if number > 1 else 'the'} {name}" for size, name, number in own]
    return " and ".join([*main, *words]) + lent


def explained(tried: Sequence[Tried], chosen: Configuration, task: Task) -> Iterator[str]:
    """The settings that were considered for the choice, the fastest first, and the engine's own among them."""
    yield f" Settings considered, with the time for the usual {task.name}, thoughts included:"
    cells = [("", "weights", "attention", "KV", "context", "must fit", "takes", "")]
    for fit in tried:
        settings = fit.configuration
        usual = settings.repack and not (settings.flash_attention and settings.gpu_layers == 0)
        cells.append(
            (
                "▸" if settings == chosen else "",
                "repacked" if settings.repack else "in the file",
                "flash" if settings.flash_attention else "plain",
                settings.kv_type,
                f"{settings.context:,}",
                units.size(fit.must_fit_bytes),
                units.seconds(fit.task_s),
                "the defaults" if usual else "",
            )
        )
    yield from table(cells, "<" * len(cells[0]), gap=1, indent=3)


def drafted(forecast: DraftForecast, model: Draft | None = None) -> Iterator[str]:
    """What an answer gains that copies from its prompt, or any by a draft ``model``, and what this rests on."""
    yield ""
    yield from _wrapped(
        f"Drafts: {forecast.rows} tokens computed at once take as long as some {forecast.steps:.1f} one by one, so what"
        f" an answer copies from its prompt is written up to {forecast.gain:.1f} times as fast"
        f" ({forecast.rows / forecast.most_steps:.1f}–{forecast.rows / forecast.fewest_steps:.1f})."
    )
    if forecast.drafted_tokens:
        accepted, drafts = units.count(forecast.accepted_tokens), units.count(forecast.drafted_tokens)
        yield from _wrapped(f"Of {drafts} tokens that were drafted here so far, {accepted} were right.")
    if model is not None:
        name = f"{model.candidate.model.name} {model.candidate.artifact.quant}"
        tokens = units.number_of(model.count, "token")
        yield from _wrapped(f"{name} drafts {tokens} at a time: answers come about {model.gain:.1f} times as fast.")


def _pace(fit: Fit, *, writes: bool) -> str:
    pace = fit.speed
    if not writes:
        return f"reads {units.tok_s(pace.prefill_tok_s)} tok/s"
    low, high = units.tok_s(pace.decode_low_tok_s), units.tok_s(pace.decode_high_tok_s)
    return f"{units.tok_s(pace.decode_tok_s)} tok/s ({low}–{high})"


def _table(rows: list[tuple[str, Fit]], *, writes: bool) -> Iterator[str]:
    cells = [("", "pick", "model", "quant", "memory", "speed", "download")]
    for name, fit in rows:
        cells.append(
            (
                "▸" if name == "best" else "",
                name,
                fit.candidate.model.name,
                fit.candidate.artifact.quant,
                units.size(sum(row.total_bytes for row in fit.memory.by_device)),
                _pace(fit, writes=writes),
                _download(fit),
            )
        )
    yield from table(cells, "<" * len(cells[0]), gap=1, indent=1)


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
    yield from table(cells, ">" * len(names), gap=1, indent=3)
    yield ""
    taken = [f"{units.size(row.total_bytes)} of {units.size(row.available_bytes)}" for row in memory.by_device]
    bars = [(row.device, _bar(row), words) for row, words in zip(memory.by_device, taken, strict=True)]
    yield from table(bars, "><<", gap=1, indent=3)
    yield f"   {LEGEND}"
    yield ""
    reserved = memory.must_fit_bytes - memory.touched_bytes
    only = f", of which {units.size(reserved)} is only reserved, for the logits of a whole batch" if reserved else ""
    mapped = f"{units.size(memory.mapped_bytes)} is mapped from the file, which the system can drop and read again"
    yield from _wrapped(f"{units.size(memory.must_fit_bytes)} must fit{only}; {mapped}. {BASES[memory.basis]}.")


def _parts(row: DeviceMemory) -> tuple[int, ...]:
    return row.weights_bytes, row.repacked_bytes, row.kv_bytes, row.state_bytes, row.compute_bytes


def _bar(row: DeviceMemory) -> str:
    """The device's free memory, BAR_WIDTH wide: each part with a letter of its own, so that it reads without colour.
    What is there shows, however little it is."""
    from llmctl.workspace.plan import kept_free_bytes

    weights, repacked, kv, state, compute = _parts(row)
    whole, bar, end = max(row.total_bytes, row.available_bytes), "", 0
    for mark, size in zip(MARKS, (weights, repacked, kv + state, compute), strict=True):
        end += size
        bar += mark * max(1 if size else 0, round(BAR_WIDTH * end / whole) - len(bar))
    kept = round(BAR_WIDTH * kept_free_bytes(row) / whole) if row.available_bytes else 0
    return (bar + FREE * (BAR_WIDTH - len(bar) - kept)).ljust(BAR_WIDTH, KEPT)


def rejections(rejected: tuple[Rejected, ...], limit: int) -> Iterator[str]:
    """One line for each model, nearest first; one for each file where all are wanted."""
    shown: set[str] = set()
    for rejection in rejected:
        if len(shown) >= limit:
            return
        if limit >= len(rejected) or rejection.model not in shown:
            shown.add(f"{rejection.model} {rejection.quant}" if limit >= len(rejected) else rejection.model)
            yield from _wrapped(f"Not picked: {rejection}.")


def _open(openness: Openness | None) -> str:
    if openness is None:
        return "Open: not graded."
    grades = ((DIMENSIONS[name], openness.grades.get(name)) for name in FOREMOST)
    return "Open: " + "  ".join(f"{words} {SYMBOLS[grade]}" for words, grade in grades if grade) + " "
