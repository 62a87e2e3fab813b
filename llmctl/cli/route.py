"""``llmctl route``: what would answer a prompt, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmctl import units
from llmctl.cli import options
from llmctl.cli.output import Output
from llmctl.cli.table import table
from llmctl.shell import command

if TYPE_CHECKING:
    from llmctl.workspace.route import Answering, Reason, Routed

HOLDS = {True: "yes", False: "no", None: "perhaps"}


def route(
    prompt: Annotated[str | None, typer.Argument(help="What would be asked; its length counts.")] = None,
    model: options.Model = None,
    task: options.Task = None,
    context: options.Context = None,
    max_tokens: options.MaxTokens = None,
    threads: options.Threads = None,
    local: options.LocalOnly = False,
    private: options.Private = False,
    remote: options.Remote = False,
    endpoint: options.Server = None,
    min_tok_s: options.MinTokS = None,
    max_first_token: options.MaxFirstToken = None,
    max_download: options.MaxDownload = None,
    offline: options.Offline = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show what would answer a prompt and why, and each reason for which it would leave this machine.

    \b
    Examples:
      llmctl route "Explain mmap in two sentences."
      llmctl route --task code
      llmctl run --dry-run -f report.pdf "What is new?"   with files

    Nothing is loaded, measured, fetched or sent. Whether a model can be loaded and its engine can answer is known once
    that was tried, so those reasons are shown as "perhaps". On a machine that was never measured (llmctl doctor does)
    `run` measures first and may choose another model.

    Exit codes: as those of `llmctl run` with the same options: 3 nothing fits, 4 no such model or endpoint, 5 offline,
    6 a broken file, 10 configuration, 11 policy.
    """
    from msgspec.structs import replace

    from llmctl.cli.prompt import utf8
    from llmctl.types.request import Request, Sampling
    from llmctl.workspace import configuration
    from llmctl.workspace.ask import estimated_tokens
    from llmctl.workspace.local_run import Asked, LocalRun, local_run
    from llmctl.workspace.route import routed

    options.require_one_side(local=local, remote=remote, endpoint=endpoint)
    out = Output("route", as_json=json)
    loaded = configuration.load(out)
    loaded = options.for_call(replace(loaded, offline=loaded.offline or offline), task=task, remote=remote)
    limits = {"min_tok_s": min_tok_s, "max_first_token": max_first_token, "max_download": max_download}
    loaded = options.with_limits(loaded, "route", **limits)
    plain = Request.of(utf8(prompt or ""))
    request = replace(plain, sampling=Sampling(max_tokens=max_tokens), private=private)
    asked = Asked(model, task, context, threads, estimated_tokens(request) if prompt else 0, max_tokens, once=True)

    def make_local_run() -> LocalRun:
        return local_run(out, loaded, asked, yes=False, local=local or private, dry=True)

    show(out, routed(loaded, request, make_local_run, local=local, endpoint=endpoint))


def show(out: Output, decided: Routed) -> None:
    """What would answer, and why, for a person or as a document."""
    out.text(_words(decided.answers))
    out.text(f"  because   {decided.reason}")
    if decided.answers.download_bytes:
        out.text(f"  first     a download of {units.size(decided.answers.download_bytes)}, if you agree")
    for answering in _then(decided):
        out.text(f"  if not    {_words(answering)}")
    if decided.stays_because is not None:
        out.text(f"  leaves    never: {decided.stays_because}")
    else:
        out.text("It leaves this machine when:")
        for line in table([_row(reason) for reason in decided.reasons], "<<<", indent=2):
            out.text(line)
    out.note(f"  next: {_next(decided)}")
    out.data(decided)


def _then(decided: Routed) -> tuple[Answering, ...]:
    """Who answers where the first one fails, in the order in which they are asked."""
    fallback = () if decided.fallback is None else (decided.fallback,)
    is_here = decided.fallback is not None and decided.fallback.endpoint is None
    return (*decided.others, *fallback) if is_here else (*fallback, *decided.others)


def _words(answering: Answering) -> str:
    context = "" if answering.context is None else f", {answering.context:,} tokens of context"
    if answering.endpoint is None:
        return f"this machine: {answering.model} {answering.quant}{context}"
    return f"{answering.endpoint} ({answering.host}): {answering.model}{context}"


def _row(reason: Reason) -> tuple[str, ...]:
    stays = "" if reason.barred is None or reason.holds is False else f"; then it stays: {reason.barred}"
    return reason.left_because, HOLDS[reason.holds], f"{reason.says}{stays}"


def _next(decided: Routed) -> str:
    """A command with which something else would answer."""
    from llmctl.workspace.route import NO_SERVER

    if decided.left_because is not None:
        return f"{command('llmctl', 'run', '--local')} …   lets this machine answer, or nothing"
    if decided.fallback is not None and decided.fallback.endpoint is not None:
        return f"{command('llmctl', 'run', '-e', decided.fallback.endpoint)} …   lets that server answer"
    if decided.stays_because == NO_SERVER:
        return "llmctl endpoint add NAME URL   lets a server of yours answer what this machine can't"
    return "llmctl run …   answers"
