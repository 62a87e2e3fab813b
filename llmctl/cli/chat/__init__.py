"""``llmctl chat``: a conversation at the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl import units
from llmctl.cli import options
from llmctl.errors import UsageError
from llmctl.units import number_of

if TYPE_CHECKING:
    from llmctl.cli.output import Output
    from llmctl.settings import Settings


def chat(
    model: options.Model = None,
    task: options.Task = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="Instructions before the conversation.")] = None,
    going_on: options.GoOn = False,
    context: options.Context = None,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    seed: options.Seed = None,
    threads: options.Threads = None,
    draft: options.DraftModel = None,
    local: options.LocalOnly = False,
    private: options.Private = False,
    remote: options.Remote = False,
    endpoint: options.Server = None,
    engine: options.Engine = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Yes to the download of the first model.")] = False,
    offline: options.Offline = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Delete the conversations and prompts kept on disk, and end.")
    ] = False,
) -> None:
    """Talk with the model that suits this machine. /help lists what can be typed.

    \b
    Examples:
      llmctl chat
      llmctl chat --task code --system "Answer in one paragraph."
      llmctl chat -m qwen3.5-4b --local
      llmctl chat -c

    The model stays loaded until you leave. Every prompt goes the way that `llmctl run` would send it, together with the
    conversation so far: a server of yours is named before anything is sent, and /route says who answered what. When the
    conversation no longer fits and no server of yours may take it, the oldest turns are dropped: after you agreed, and
    it is said each time. Nothing of it is kept on disk unless you /save it; with the setting chat_history = true the
    last 500 conversations are kept, readable by you alone, so that -c goes on with the last one, and prompts for the Up
    key. What is --private is never kept, and --forget deletes it all.

    Exit codes: 0 left, 2 no terminal, otherwise as `llmctl run` until the first prompt.
    """
    from msgspec.structs import replace

    from llmctl.cli.chat.session import Session
    from llmctl.cli.keeping import Keeping, begin, last_conversation
    from llmctl.cli.terminal import TerminalOutput, lay_out
    from llmctl.types.request import Sampling
    from llmctl.workspace import configuration
    from llmctl.workspace.chat import Chat
    from llmctl.workspace.local_run import Asked

    out = TerminalOutput("chat")
    if forget:
        _forget(out)
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
        raise UsageError("chat talks at a terminal, and this is none", hint='llmctl run "…"   for pipes and files')
    options.require_one_side(local=local, remote=remote, endpoint=endpoint)
    loaded = configuration.load(out)
    loaded = replace(loaded, offline=loaded.offline or offline, engine=engine or loaded.engine)
    lay_out(out, markdown=loaded.markdown)
    kept = last_conversation(out, loaded, endpoint) if going_on else None
    loaded = loaded.for_remote() if remote else loaded
    conversation, begun = begin(kept, model, task, system, local=local)
    asked = Asked(begun.model, begun.task, context, threads, prompt_tokens=0, answer_tokens=max_tokens, draft=draft)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    with Chat(out, loaded, asked, local=begun.local, private=private, endpoint=endpoint) as talk:
        talk.begin(yes=yes)
        session = Session(out, talk, conversation, sampling, Keeping(out, loaded, private=private, kept=kept))
        session.greet()
        session.until_left(_prompts_file(loaded, private=private))


def _prompts_file(loaded: Settings, *, private: bool) -> Path | None:
    from llmctl.workspace import kept_conversations

    return kept_conversations.prompts_file() if loaded.chat_history and not private else None


def _forget(out: Output) -> None:
    """Deletes what is kept of conversations, and says how much that was."""
    from llmctl.workspace import kept_conversations

    forgotten = kept_conversations.forget()
    if not (forgotten.conversations or forgotten.prompts):
        out.note("no conversations and no prompts are kept")
        return
    out.note(
        f"deleted: {number_of(forgotten.conversations, 'conversation')} and {number_of(forgotten.prompts, 'prompt')}, "
        f"{units.size(forgotten.bytes)}, in {kept_conversations.folder().parent}"
    )
