"""``llmctl launch``: a program of others with an engine of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from llmctl.cli import complete, options
from llmctl.cli.lazy import plain
from llmctl.cli.output import Output
from llmctl.errors import NothingFitsError, UsageError
from llmctl.shell import command, quoted

if TYPE_CHECKING:
    from typer._click import Context

    from llmctl.workspace.launch import LaunchedTool, Start, Subject
    from llmctl.workspace.programs import EngineAccess, ProgramPlan

LEAST_STAY_S = 1.0  # an engine that stays answers several requests at once, as memory allows, and `llmctl ps` has it
TAIL = "llmctl.tail"


class CommandWithTail(TyperCommand):
    """Keeps what stands behind ``--`` for another program, under TAIL of the context's ``meta``."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[TAIL] = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARGS]"]


def launch(
    ctx: typer.Context,
    tool: Annotated[
        str,
        typer.Argument(help="aider, opencode, goose, llm, open-webui, codex, claude.", autocompletion=complete.tools),
    ],
    model: Annotated[
        str | None,
        typer.Argument(help="NAME[:QUANT] or FILE.gguf; llmctl chooses without.", autocompletion=complete.models),
    ] = None,
    context: options.Context = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show command and environment; start nothing.")] = False,
    keep_alive: Annotated[
        str | None, typer.Option("--keep-alive", help="How long the model stays loaded after the tool's end.")
    ] = None,
    yes: options.Yes = False,
    offline: options.Offline = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing beside the tool.")] = False,
    json: Annotated[bool, typer.Option("--json", help="With --dry-run: one JSON document on stdout.")] = False,
) -> None:
    """Start a coding agent or client that is installed with a model of this machine.

    \b
    Examples:
      llmctl launch aider
      llmctl launch opencode qwen3.5-9b
      llmctl launch goose --dry-run
      llmctl launch llm -- "Why is the sky blue?"
      llmctl serve qwen3.5-9b --context 65536 --detach; llmctl launch claude

    The tool gets the engine's address, key and model by environment and arguments, which --dry-run shows: its own
    configuration is neither read nor written. Model and context are planned for what the tool does: an agent reads some
    24,000 tokens before its first answer, and needs 64k of context. Where this machine is too slow for that, llmctl
    says so, with the seconds, and asks before it goes on. While the tool runs the engine stays; Ctrl-C is the tool's.
    Where `llmctl serve` runs here with a model for the tool, the tool has that; Claude Code and Codex need it: they
    speak APIs that a gateway answers and an engine alone doesn't. Prompts that the tool sends to the engine stay on
    this machine; what else it sends is its own affair.

    Exit codes: those of the tool; before it begins 2 one that needs a gateway, 3 nothing fits or nothing is
    fast enough and nobody said yes, 4 no such tool or model, or not installed, 8 the engine failed.
    """
    from llmctl.workspace.launch import (
        Subject,
        find,
        first_prompt_tokens,
        gateway_for,
        planned_start,
        require_program,
        run,
    )
    from llmctl.workspace.local_run import Asked
    from llmctl.workspace.programs import lent, obtained, planned

    out = Output("launch", as_json=json, quiet=quiet)
    if json and not dry_run:
        raise UsageError("--json goes with --dry-run: the output is the tool's", hint="llmctl launch --help")
    row, arguments = find(tool), ctx.meta[TAIL]
    if not dry_run:
        require_program(row)
    loaded = options.settings_with(out, offline=offline, keep_alive=keep_alive)
    asked = Asked(model, row.task, context, None, first_prompt_tokens(row), None)
    if (gateway := gateway_for(row, asked)) is not None:
        _with_gateway(out, row, gateway, arguments, dry_run=dry_run)
        return
    plan = planned(out, loaded, asked)
    if dry_run:
        if plan.unsuited is not None:
            out.warn(_not_recommended(row, plan))
        about, candidate = plan.fit, plan.fit.candidate
        out.note(f"{candidate.model.name} {candidate.artifact.quant} · {about.context:,} tokens of context")
        subject = Subject(candidate.model.id, candidate.artifact.quant, about.context, plan.unsuited)
        _show(out, row, subject, planned_start(row, plan.fit, arguments))
        return
    _require_consent(out, row, plan, yes=yes)
    fit = obtained(out, plan, asked, yes=yes)
    keep_alive_s = max(loaded.keep_alive, LEAST_STAY_S)
    with lent(out, fit, keep_alive_s=keep_alive_s, insist=keep_alive is not None) as engine:
        out.note(f"{row.title} has {engine.model} {engine.quant} with {engine.context:,} tokens of context")
        code = run(row, engine, arguments)
    raise typer.Exit(code)


app = plain()
app.command("launch", cls=CommandWithTail)(launch)


def _with_gateway(
    out: Output, tool: LaunchedTool, gateway: EngineAccess, arguments: Sequence[str], *, dry_run: bool
) -> None:
    """The tool with the models of a gateway that runs."""
    from msgspec.structs import replace

    from llmctl.workspace.launch import HIDDEN, UNKNOWN_FOLDER, Subject, run, start

    has = f"{gateway.model} {gateway.quant} with {gateway.context:,} tokens of context, by the gateway that runs"
    out.note(f"{tool.title} has {has}")
    if not dry_run:
        raise typer.Exit(run(tool, gateway, arguments))
    shown = start(tool, replace(gateway, api_key=HIDDEN), arguments, UNKNOWN_FOLDER)
    _show(out, tool, Subject(gateway.model, gateway.quant, gateway.context), shown)


def _not_recommended(tool: LaunchedTool, plan: ProgramPlan) -> str:
    fit = plan.fit
    name = f"{fit.candidate.model.name} {fit.candidate.artifact.quant}"
    return f"NOT RECOMMENDED for {tool.title}: {name} {plan.unsuited}"


def _require_consent(out: Output, tool: LaunchedTool, plan: ProgramPlan, *, yes: bool) -> None:
    """Raises NothingFitsError where machine or model are not up to the tool, and nobody wants it nevertheless."""
    if plan.unsuited is None:
        return
    message = _not_recommended(tool, plan)
    if yes:
        out.warn(message)
    elif not out.interactive or not out.confirm(f"{message}. Start it nevertheless?", yes=False, by_default=False):
        raise NothingFitsError(message, hint=f"{command('llmctl', 'plan', '--task', tool.task)}   or add --yes")


def _show(out: Output, tool: LaunchedTool, subject: Subject, start: Start) -> None:
    """What would be started, the key hidden."""
    from llmctl.workspace.launch import program

    path = program(tool)
    if path is None:
        out.warn(f"{tool.title} is not installed: {tool.install}")
    for name, text in start.files.items():
        out.note(f"in a folder of its own, {name}: {text}")
    for name, value in start.environment.items():
        out.text(f"{name}={quoted(value)} \\")
    out.text(command(*start.argv))
    out.data(_document(tool, path, subject, start))


def _document(tool: LaunchedTool, path: str | None, subject: Subject, start: Start) -> dict[str, object]:
    return {
        "tool": tool.name,
        "program": path,
        "install": tool.install,
        "argv": start.argv,
        "environment": start.environment,
        "files": start.files,
        "model": subject.name,
        "quant": subject.quant,
        "context": subject.context,
        "recommended": subject.why is None,
        "why": subject.why,
    }
