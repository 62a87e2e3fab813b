"""``llmctl plan``: what would run here, how fast, in how much memory, and why."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.types.openness import Level

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmctl.catalogue.knowledge import Task
    from llmctl.types.machine import Machine
    from llmctl.types.plan import NoFit, Plan, Want
    from llmctl.workspace.plan import Planned

EXIT_NOTHING_FITS = 3
MOST_USERS = 64


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
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            help="What for: chat, code, reasoning, summarise, translate, extract, vision, embed or rerank.",
            autocompletion=complete.tasks,
        ),
    ] = None,
    lang: Annotated[
        str | None,
        typer.Option(
            "--lang", help="A language that it must know, by its code: it.", autocompletion=complete.languages
        ),
    ] = None,
    context: Annotated[int | None, typer.Option("--context", min=1, help="Tokens of context.")] = None,
    prompt_tokens: Annotated[
        int | None, typer.Option("--prompt-tokens", min=1, help="How long a prompt to expect.")
    ] = None,
    answer_tokens: Annotated[
        int | None, typer.Option("--answer-tokens", min=1, help="How long an answer to expect, thoughts included.")
    ] = None,
    min_tok_s: Annotated[float | None, typer.Option("--min-tok-s", min=0, help="Slowest writing to accept.")] = None,
    max_download: Annotated[str | None, typer.Option("--max-download", help="Largest download, like 5GB.")] = None,
    installed: Annotated[bool, typer.Option("--installed", help="Only what is on this machine.")] = False,
    level: Annotated[
        Level | None, typer.Option("--open", help="Only what is as open as this: weights, data as well, all of it.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="Only under this licence (SPDX).", autocompletion=complete.licences)
    ] = None,
    tight: Annotated[bool, typer.Option("--tight", help="Leave no room for other programs.")] = False,
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine", help="Another machine: a name, or a file in JSON or TOML.", autocompletion=complete.machines
        ),
    ] = None,
    ram: Annotated[str | None, typer.Option("--ram", help="As if the machine had so much memory, like 32GB.")] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", help="As if this were its GPU; none for without.", autocompletion=complete.gpus),
    ] = None,
    vram: Annotated[str | None, typer.Option("--vram", help="As if its GPU had so much memory, like 16GB.")] = None,
    browser: Annotated[
        bool, typer.Option("--browser", help="In a browser's tab (llmctl web), not by the engine here.")
    ] = False,
    kv_type: Annotated[
        KvType | None,
        typer.Option(
            "--kv-type", help="What the KV cache is kept in: q8_0 takes half of what f16 does, q4_0 a quarter."
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", "-t", min=1, help="Threads to decode with.")] = None,
    users: Annotated[int, typer.Option("--users", min=1, help="Requests answered at once.")] = 1,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="Of how many such machines: whether they serve --users.")
    ] = None,
    gpu_layers: Annotated[
        int | None, typer.Option("--gpu-layers", min=-1, help="Layers on the GPU; -1 for all of them.")
    ] = None,
    repack: Annotated[
        bool | None,
        typer.Option("--repack/--no-repack", help="A second copy of weights for the CPU's fast kernels, or none."),
    ] = None,
    flash_attention: Annotated[
        bool | None,
        typer.Option(
            "--flash-attention/--no-flash-attention",
            help="Attention without its whole matrix in memory: less memory, another speed.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=0, help="Show so many alternatives, and so many reasons against others."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every file of the catalogue, each with its reason.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="The settings that were considered, with times.")] = False,
    chart: Annotated[bool, typer.Option("--chart", help="Quality against speed, drawn.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="The same as a picture, in FILE.svg.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """What would run here, how fast, in how much memory, and why.

    \b
    Examples:
      llmctl plan
      llmctl plan --task code --min-tok-s 15
      llmctl plan --task translate --lang it --open weights
      llmctl plan qwen3.5-4b          every quantization of one model
      llmctl plan ./model.gguf        a file; its header is enough
      llmctl plan org/name:Q4_K_M     a repository on the hub, by its headers
      llmctl plan --machine pi.toml   another machine
      llmctl plan --ram 64GB --gpu "GeForce RTX 5090"   what would be if
      llmctl plan --browser           in a tab, as llmctl web has it
      llmctl plan --users 4           memory and speed for four at once
      llmctl plan --users 40 --count 3 --machine desktop-rtx-4090
      llmctl plan --plot frontier.svg

    What you ask for (--context, --kv-type, --gpu-layers) is never changed: it fits, or the gap is told. The rest gives
    way in this order: everything on the GPUs, the KV cache in f16; some experts on the CPU; the cache in q8_0; 256 or
    128 tokens computed at once instead of 512; fewer layers on the GPUs; less context than is usual for the task.

    A recommendation leaves a fifth of the free memory, at most 8 GiB, to other programs (--tight takes it, as does a
    model that you name), knows the language asked for by its publisher's word or by a test, and reaches the task's
    floors of speed, which profiles/tasks.toml has.

    llama.cpp rotates what it keeps in a quantized KV cache since April 2026 (llama.cpp#21038): by its measurements q8_0
    is close to f16 now, and q4_0 loses far less than older advice says, small models most. llmctl takes q8_0 where f16
    doesn't fit, and q4_0 only when you ask for it.

    A vision projector beside the model is counted, with what it computes an image in; llmctl run loads it for images.

    Fetches headers only, loads nothing. The first time, the engine's kernels are measured, which takes some seconds.
    Exit codes: 0, 2 usage, 3 nothing fits, 4 no such model or file, 6 not a sound GGUF file, 10 a broken profile.
    """
    from llmctl.cli.plan import asked
    from llmctl.cli.plan.browser import tab_lines
    from llmctl.cli.plan.capacity import capacity_lines
    from llmctl.cli.plan.screen import drafted, rejections
    from llmctl.errors import NothingFitsError, UsageError
    from llmctl.types.plan import NoFit
    from llmctl.workspace.workspace import Workspace

    out = Output("plan", as_json=json)
    allowed = None if max_download is None else asked.size("--max-download", max_download)
    asked.check_cache(kv_type and kv_type.value, flash_attention)
    asked.check_browser(browser=browser, gpu=gpu, vram=vram, gpu_layers=gpu_layers)
    if lang is not None:
        asked.check_language(lang)
    if plot is not None:
        asked.check_picture(plot)
    if count is None and users > MOST_USERS:
        raise UsageError(
            f"one machine answers {MOST_USERS} at once at most, not {users:,}",
            hint="llmctl plan --count K   of several",
        )
    workspace = Workspace(
        out,
        machine=machine,
        ram_bytes=asked.memory_size("--ram", ram),
        vram_bytes=asked.memory_size("--vram", vram),
        gpu=gpu,
        browser=browser,
    )
    planned = workspace.planned(
        model,
        task=task,
        context=context,
        threads=threads,
        min_tok_s=min_tok_s,
        max_download_bytes=allowed,
        gpu_layers=gpu_layers,
        kv_type=kv_type and kv_type.value,
        repack=repack,
        flash_attention=flash_attention,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        language=lang,
        openness=level and level.value,
        licence=licence,
        installed=installed,
        tight=tight,
        users=1 if count is not None else users,  # of many machines each answers a share of them
    )
    answer, wanted, tab = planned.answer, planned.want, workspace.browser_tab
    if isinstance(answer, NoFit):
        error = NothingFitsError(answer.reason, hint=asked.next_after(model, wanted, workspace.settings.endpoints))
        if not json:
            for line in rejections(answer.rejected[1:], len(answer.rejected) if everything else limit or 0):
                out.note(line)
            raise error
        out.data(
            {**document(answer, wanted, limit), "present": None, "drafts": None, "capacity": None, "browser": tab},
            error,
        )
        raise typer.Exit(EXIT_NOTHING_FITS)
    place = "this machine" if machine is None else Path(machine).name
    place = f"a browser's tab on {place}" if browser else place
    changed = [f"{option} {value}" for option, value in (("--ram", ram), ("--gpu", gpu), ("--vram", vram)) if value]
    place += f" with {' '.join(changed)}" if changed else ""
    planned_task = workspace.tasks[wanted.task]
    if plot is not None:
        _draw(plot, answer, planned_task, f"{wanted.task} on {place}")
        out.note(f"{plot} is written")
    for warning in asked.without_effect(answer.choice, workspace.machine, wanted):
        out.warn(warning)
    served = None if count is None else workspace.capacity(planned, count, users=users)
    now = {"present": planned.present, "drafts": planned.drafts, "capacity": served, "browser": tab}
    out.data({**document(answer, wanted, limit), **now})
    if not json:
        for warning in answer.choice.warnings:
            out.warn(warning)
        drawing = place, limit, everything, explain, chart
        for line in _lines(planned, planned_task, workspace.machine, *drawing):
            out.text(line)
        if explain and planned.drafts is not None and planned_task.writes:
            for line in drafted(planned.drafts, planned.draft_model):
                out.text(line)
        if tab is not None:
            for line in tab_lines(tab):
                out.text(line)
        if served is not None:
            for line in capacity_lines(served, answer.choice, workspace.machine, users):
                out.text(line)


def _lines(
    planned: Planned,
    task: Task,
    machine: Machine,
    place: str,
    limit: int | None,
    everything: bool,
    explain: bool,
    chart: bool,
) -> Iterator[str]:
    """The screen, with the chart before its last part where it was asked for or there is room for it."""
    from llmctl.cli.plan import frontier
    from llmctl.cli.plan.screen import explained, screen
    from llmctl.types.plan import NoFit

    answer, wanted, present = planned.answer, planned.want, planned.present
    assert not isinstance(answer, NoFit), "that is an error"
    lines = list(screen(answer, wanted, task, machine, present, place=place, limit=limit, everything=everything))
    shown = frontier.points(answer, writes=task.writes)
    floor = task.min_tok_s if wanted.min_tok_s is None else wanted.min_tok_s
    drawn = list(frontier.drawn(shown, floor)) if len(shown) > 1 else []
    table = lines.index("", lines.index("") + 1) + 1  # after the heading and the table
    yield from lines[:table]
    if chart or (not everything and _room_for(len(lines) + len(drawn), max(map(len, drawn), default=0))):
        yield from [*drawn, ""] if drawn else []
    yield from lines[table:]
    if explain:
        yield ""
        yield from explained(answer.choice.tried, answer.choice.configuration, task)


def _room_for(lines: int, columns: int) -> bool:
    """Whether a terminal shows so many lines without losing the first, and the prompt below, and is so wide."""
    import shutil
    import sys

    terminal = shutil.get_terminal_size()
    return sys.stdout.isatty() and terminal.lines > lines + 2 and terminal.columns >= columns


def _draw(file: Path, answer: Plan, task: Task, title: str) -> None:
    from llmctl.cli.plan import frontier
    from llmctl.errors import UsageError

    shown = frontier.points(answer, writes=task.writes)
    if not shown:
        raise UsageError("--plot: nothing that fits has a published quality, so there is nothing to draw")
    try:
        file.write_text(frontier.picture(f"Quality and speed: {title}", shown, task.min_tok_s), "utf-8")
    except OSError as error:
        raise UsageError(f"--plot: {file} can't be written: {error.strerror}") from error


def document(answer: Plan | NoFit, wanted: Want, limit: int | None = None) -> dict[str, Any]:
    """``data`` of ``llmctl plan --json``; ``picks`` names the model and quant of each."""
    from llmctl.types.plan import Plan
    from llmctl.workspace.document import candidate_document

    common = {"task": wanted.task, "rejected": answer.rejected[:limit]}
    if not isinstance(answer, Plan):
        no_fit = {"reason": answer.reason, "nearest": answer.nearest}
        return {"choice": None, "picks": {}, "alternatives": [], "changes": [], **common, "no_fit": no_fit}
    picks = {
        name: {"model": fit.candidate.model.id, "quant": fit.candidate.artifact.quant}
        for name, fit in answer.picks.items()
    }
    alternatives = [candidate_document(fit) for fit in answer.alternatives[:limit]]
    choice = candidate_document(answer.choice)
    changes = [{"condition": change.condition, "fit": candidate_document(change.fit)} for change in answer.changes]
    fitting = {"choice": choice, "picks": picks, "alternatives": alternatives, "changes": changes}
    return {**fitting, **common, "no_fit": None}
