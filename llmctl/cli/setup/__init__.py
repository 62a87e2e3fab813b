"""``llmctl setup``: from nothing to the right model answering, with at most ten questions. --yes answers them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.errors import UsageError
from llmctl.types.policy import Policy

if TYPE_CHECKING:
    from llmctl.workspace.setup.steps import Stage
    from llmctl.workspace.situation import Situation

NEXT = 'llmctl chat     llmctl run "…"     llmctl plan     llmctl doctor'


def setup(
    task: Annotated[
        str | None, typer.Option("--task", help="What the model is for.", autocompletion=complete.tasks)
    ] = None,
    lang: Annotated[
        str | None, typer.Option("--lang", help="A language beside English: it.", autocompletion=complete.languages)
    ] = None,
    limits: Annotated[
        str | None, typer.Option("--limits", help="usual, small, patient, or the largest download, like 5GB.")
    ] = None,
    pick: Annotated[str | None, typer.Option("--pick", help="best, balanced, fastest, or a model, NAME:QUANT.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="The first question to the model.")] = None,
    build: Annotated[
        str | None, typer.Option("--build", help="now: install the engine's build that fits; later: don't.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option("--server", help="The address of a server of yours (a model's name behind it): consent."),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Where its key is: a variable's name, or a file's path.")
    ] = None,
    policy: Annotated[Policy | None, typer.Option("--policy", help="When prompts may go there.")] = None,
    texts: Annotated[str | None, typer.Option("--texts", help="A folder of your own texts.")] = None,
    extras: Annotated[str | None, typer.Option("--extras", help="both, keep-alive, completion or none.")] = None,
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine",
            metavar="NAME|FILE",
            help="What would be said on a described machine.",
            autocompletion=complete.machines,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take every default, without asking.")] = False,
) -> None:
    """Set this machine up: look at it, pick a model, fetch it, ask it something.

    \b
    Examples:
      llmctl setup
      llmctl setup --yes
      llmctl setup --yes --task code --lang it --limits 5GB --extras none
      llmctl setup --machine raspberry-pi-5-8gb

    At most ten questions: the engine's build where another fits better, what the model is for, which language, how much
    disk and patience, which of three models, a server of your own with its key and the policy, own texts, and what
    stays switched on. Each can be skipped, gone back to and asked why; an option answers its question. Ctrl-C leaves at
    any time, and what was done stays: running it again starts from there. Without a terminal it needs --yes, which adds
    no server unless --server names one. At the end stand the commands that do the same.

    Exit codes: 0 ready, 2 no terminal and no --yes, 3 nothing fits and no server was added, 5 network, 6 a broken
    download, 7 disk full, 8 the engine failed, 9 the server refused the key, 130 Ctrl-C.
    """
    from llmctl.workspace.setup.steps import Stage

    out = Output("setup")
    given = {
        Stage.BUILD: build,
        Stage.TASK: task,
        Stage.LANGUAGE: lang,
        Stage.LIMITS: limits,
        Stage.MODEL: pick,
        Stage.PROMPT: prompt,
        Stage.SERVER: server,
        Stage.KEY: key,
        Stage.POLICY: policy,
        Stage.TEXTS: texts,
        Stage.EXTRAS: extras,
    }
    answered = {step: text for step, text in given.items() if text is not None}
    _check(answered)
    if machine is not None:
        _described(out, machine, answered)
    elif yes or out.interactive:
        _set_up(out, answered, yes=yes)
    else:
        raise UsageError("setup asks questions and there is no terminal", hint="llmctl setup --yes")


def _check(given: Mapping[Stage, str]) -> None:
    """Raises UsageError for what can't be an answer, before anything is looked at."""
    from llmctl.workspace.names import languages, tasks
    from llmctl.workspace.setup import answers
    from llmctl.workspace.setup.steps import Stage

    if Stage.TASK in given:
        answers.option(given[Stage.TASK], tasks())
    if Stage.LANGUAGE in given:
        answers.language(given[Stage.LANGUAGE], languages())
    if Stage.LIMITS in given:
        answers.limits(given[Stage.LIMITS])
    if Stage.SERVER in given:
        answers.server(given[Stage.SERVER])
    for step in (Stage.KEY, Stage.POLICY):
        if step in given and Stage.SERVER not in given:
            raise UsageError(f"--{step} is for a server, and --server names none", hint="llmctl setup --help")


def _set_up(out: Output, given: Mapping[Stage, str], *, yes: bool) -> None:
    from llmctl.cli.completion import shell_in_use
    from llmctl.cli.setup.asking import Defaults, Person
    from llmctl.cli.setup.session import SetupSession
    from llmctl.workspace.engine_builds import offer
    from llmctl.workspace.situation import look

    out.note("Looking at this machine, and measuring how fast its memory feeds the engine (some seconds once).")
    situation = look(out, every_kernel=True)
    _machine(out, situation)
    session = SetupSession(
        out,
        situation,
        Defaults(out) if yes else Person(out),
        given,
        offer=offer(situation.machine, situation.engines),
        shell=shell_in_use(),
    )
    try:
        session.go()
    except KeyboardInterrupt:
        out.note("\nStopped. What was done stays; llmctl setup goes on from there.")
        _done(out, "Done so far:", session.done)
        raise
    out.note("\nReady.  The same without questions:")
    out.unbroken(f"  {session.as_one_command}")
    _done(out, "Or step by step:", session.done)
    out.note(f"Next:  {NEXT}")


def _done(out: Output, heading: str, commands: list[str]) -> None:
    if commands:
        out.note(heading)
    for line in dict.fromkeys(commands):
        out.unbroken(f"  {line}")


def _machine(out: Output, situation: Situation) -> None:
    from llmctl.cli.setup.asking import columns
    from llmctl.cli.setup.meaning import meaning
    from llmctl.cli.table import wrapped
    from llmctl.workspace.setup.work import is_termux

    out.note("")
    is_here = not situation.elsewhere
    for sentence in meaning(situation.machine, situation.engines, is_termux=is_here and is_termux()):
        out.note(wrapped(sentence, columns(), first="  ", indent="  "))


def _described(out: Output, name: str, given: Mapping[Stage, str]) -> None:
    """What would be said and offered on a described machine. Nothing is fetched or set."""
    from llmctl.cli.setup.asking import columns
    from llmctl.cli.setup.columns import LEGEND, side_by_side
    from llmctl.workspace.machine import described
    from llmctl.workspace.names import languages
    from llmctl.workspace.setup import answers, picks, work
    from llmctl.workspace.setup.steps import Stage
    from llmctl.workspace.situation import look

    situation = look(out, machine=described(out, name, ram_bytes=None, vram_bytes=None, gpu=None))
    _machine(out, situation)
    said = given.get(Stage.LANGUAGE)
    wishes = work.SetupWishes(
        given.get(Stage.TASK, situation.settings.task),
        None if said is None else answers.language(said, languages()),
        answers.limits(given.get(Stage.LIMITS, answers.USUAL)),
    )
    plan = work.offered(situation, wishes).plan
    out.note("")
    for line in (*side_by_side(picks.picks(plan), columns()), LEGEND):
        out.note(line)
