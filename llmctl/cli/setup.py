"""``llmctl setup``: the first time, with explanations. Every question has a default; --yes answers them all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.errors import LlmctlError, ResourceError, UsageError
from llmctl.shell import command

if TYPE_CHECKING:
    from llmctl.settings import Settings
    from llmctl.types.plan import Fit, Plan, Want
    from llmctl.workspace.situation import Situation

FIRST_QUESTION = "Why is the sky blue?"
FIRST_ANSWER_TOKENS = 200  # enough to see that it works and how fast


def setup(
    task: Annotated[
        str | None, typer.Option("--task", help="What the model is for.", autocompletion=complete.tasks)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take every default, without asking.")] = False,
) -> None:
    """Set this machine up: look at it, pick a model, fetch it, ask it something.

    \b
    Examples:
      llmctl setup
      llmctl setup --yes

    Fetches one model after you agreed to its size, and offers to add a server of your own and shell completion. Running
    it again changes nothing that is there already. Without a terminal it needs --yes.

    Exit codes: 0 ready, 2 no terminal and no --yes, 3 nothing fits, 5 network, 6 a broken download, 7 disk full.
    """
    from llmctl.workspace.setup import suited
    from llmctl.workspace.situation import look

    out = Output("setup")
    if not (yes or out.interactive):
        raise UsageError("setup asks questions and there is no terminal", hint="llmctl setup --yes")
    out.note("1. Looking at this machine, and measuring how fast its memory feeds the engine (some seconds once).")
    situation = look(out, every_kernel=True)
    _machine(out, situation)
    choice = suited(situation, task)
    fit = _fetched(out, situation, choice.plan, choice.wanted, yes=yes)
    out.note("\n3. The first question.")
    question = FIRST_QUESTION if yes else typer.prompt("Ask it something", default=FIRST_QUESTION, err=True)
    _ask(situation.settings, fit, question)
    _endpoint(out, situation, yes=yes)
    _completion(out, yes=yes)
    out.note('\nReady.  llmctl run "…"     llmctl plan     llmctl doctor')


def _machine(out: Output, situation: Situation) -> None:
    machine = situation.machine
    memory = machine.memory
    out.note(f"   {machine.cpu.name or machine.cpu.arch}, {machine.cpu.usable_threads} threads to compute with")
    fed = f", {units.rate(memory.bandwidth_bytes_per_s)}" if memory.bandwidth_bytes_per_s else ""
    out.note(f"   {units.size(memory.available_bytes)} of {units.size(memory.total_bytes)} memory free{fed}")
    for accelerator in machine.accelerators:
        state = "can be used" if accelerator.usable else f"can't be used: {accelerator.why or 'unknown'}"
        out.note(f"   {accelerator.name}: {state}")


def _fetched(out: Output, situation: Situation, planned: Plan, wanted: Want, *, yes: bool) -> Fit:
    """The three picks, the question which, and the download. Enter takes the best one."""
    from llmctl.workspace import choose

    out.note(f"\n2. What suits it for {wanted.task}, at {planned.choice.context:,} tokens of context:")
    picks = list(planned.picks.items())
    for number, (pick, fit) in enumerate(picks, 1):
        label = f"{fit.candidate.model.name} {fit.candidate.artifact.quant}"
        here = "is here" if fit.candidate.path else units.size(fit.download_bytes)
        speed = f"{units.tok_s(fit.speed.decode_low_tok_s)} to {units.tok_s(fit.speed.decode_high_tok_s)} tok/s"
        out.note(f"   {number}  {pick:8} {label:31} {speed:>16} {here:>9}")
    for reason in planned.choice.reasons[:2]:
        out.note(f"   {reason}")
    number = 1
    if not yes:
        number = typer.prompt("Which one", default=1, type=int, err=True)
        while not 1 <= number <= len(picks):
            number = typer.prompt(f"A number from 1 to {len(picks)}", default=1, type=int, err=True)
    return choose.obtain(out, situation, picks[number - 1][1], wanted, named=False, yes=yes)


def _ask(loaded: Settings, fit: Fit, question: str) -> None:
    from llmctl.cli.run import ask
    from llmctl.cli.terminal import answer_output, lay_out
    from llmctl.types.request import Request, Sampling
    from llmctl.workspace import choose
    from llmctl.workspace.local_run import LocalRun

    out = answer_output("run")
    lay_out(out, markdown=loaded.markdown)
    out.note(f"   {command('llmctl', 'run', '-m', choose.name_of(fit.candidate), names=[question])}\n")
    limits = Sampling(max_tokens=FIRST_ANSWER_TOKENS)
    ask(out, loaded, Request.of(question, limits), lambda: LocalRun(fit), local=True)


def _endpoint(out: Output, situation: Situation, *, yes: bool) -> None:
    """Adding a server is consent to send prompts to it, so --yes does not give it."""
    from llmctl.cli.endpoint import add

    if situation.settings.endpoints or yes:
        return
    out.note(
        "\n4. A server of your own can answer what this machine can't. Adding one is your consent:\n"
        "   prompts go there when no model fits or the one that llmctl chose fails, and stderr says so before\n"
        "   anything is sent. What you name with -m, and everything with --local or --offline, stays here."
    )
    if not typer.confirm("Add one now", default=False, err=True):
        out.note("   Later: llmctl endpoint add NAME URL --model MODEL")
        return
    name = typer.prompt("A short name", default="home", err=True)
    url = typer.prompt("Its address (https://…)", err=True)
    model = typer.prompt("The model's name there", err=True)
    key = typer.prompt("Environment variable that holds the key (empty: no key)", default="", err=True)
    try:
        add(name, url, model=model, key_env=key or None)
    except LlmctlError as error:  # the rest of the set-up stands, and this can be said again
        out.warn(error.message)
        again = command("llmctl", "endpoint", "add", "--model", model, names=[name])
        out.note(f"   Again: {again} URL   ({error.hint or 'see --help'})")


def _completion(out: Output, *, yes: bool) -> None:
    """Where a shell loads completion files from a folder of the user's, ours is put there."""
    from llmctl.cli.completion import Shell, script
    from llmctl.workspace.setup import completion_file

    place = completion_file(os.environ)
    if place is None:
        out.note("\nCompletion in your shell: llmctl completion install")
        return
    out.note("")
    if place.is_there or not out.confirm(f"Put completion for {place.shell} into {place.file}?", yes=yes):
        return
    try:
        place.write(script(Shell(place.shell)))
        out.note("It works from the next shell on.")
    except ResourceError as error:
        out.warn(error.message)
