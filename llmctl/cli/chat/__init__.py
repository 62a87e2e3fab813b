"""``llmctl chat``: a conversation at the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.cli import complete
from llmctl.errors import UsageError
from llmctl.types.engine import EngineName

if TYPE_CHECKING:
    from llmctl.cli.output import Output
    from llmctl.settings import Settings


def chat(
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="NAME[:QUANT], any of `models list`, or FILE.gguf.", autocompletion=complete.models
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="What the model is chosen for.", autocompletion=complete.tasks)
    ] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="Instructions before the conversation.")] = None,
    context: Annotated[int | None, typer.Option("--context", "-c", min=256, help="Tokens of context.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", "-n", min=1, help="Longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0, max=2, help="Sampling.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="For answers that can be repeated.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", "-t", min=1, help="Threads to decode with.")] = None,
    local: Annotated[bool, typer.Option("--local", help="On this machine or not at all.")] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Never leaves this machine, whatever the policy says.")
    ] = False,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", "-e", help="On this server or not at all.", autocompletion=complete.endpoints),
    ] = None,
    engine: Annotated[
        EngineName | None, typer.Option("--engine", help="What runs the model here; llmctl chooses by itself.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Yes to the download of the first model.")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Fetch nothing, and ask no server on another machine.")
    ] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Delete the prompts kept on disk, and end.")] = False,
) -> None:
    """Talk with the model that suits this machine. /help lists what can be typed.

    \b
    Examples:
      llmctl chat
      llmctl chat --task code --system "Answer in one paragraph."
      llmctl chat -m qwen3.5-4b --local

    The model stays loaded until you leave. Every prompt goes the way that `llmctl run` would send it, together with the
    conversation so far: a server of yours is named before anything is sent, and /route says who answered what. When the
    conversation no longer fits and no server of yours may take it, the oldest turns are dropped: after you agreed, and
    it is said each time. Nothing of it is kept on disk unless you /save it; with the setting chat_history = true your
    prompts are kept for the Up key (--forget deletes them).

    Exit codes: 0 left, 2 no terminal, otherwise as `llmctl run` until the first prompt.
    """
    from msgspec.structs import replace

    from llmctl.cli.chat.session import Session
    from llmctl.cli.terminal import Layout, TerminalOutput
    from llmctl.types.request import Sampling
    from llmctl.workspace import configuration
    from llmctl.workspace.chat import Chat
    from llmctl.workspace.conversation import Conversation
    from llmctl.workspace.local_run import Asked

    out = TerminalOutput("chat")
    if forget:
        _forget(out)
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
        raise UsageError("chat talks at a terminal, and this is none", hint='llmctl run "…"   for pipes and files')
    if local and endpoint is not None:
        raise UsageError("--local and --endpoint exclude each other")
    loaded = configuration.load(out)
    loaded = replace(loaded, offline=loaded.offline or offline, engine=engine or loaded.engine)
    out.layout = Layout.MARKDOWN if loaded.markdown else Layout.WORDS
    asked = Asked(model, task, context, threads, prompt_tokens=0, answer_tokens=max_tokens)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    with Chat(out, loaded, asked, local=local, private=private, endpoint=endpoint) as talk:
        talk.begin(yes=yes)
        session = Session(out, talk, Conversation(system), sampling)
        session.greet()
        session.until_left(_history(loaded))


def history_file() -> Path:
    """Where prompts are kept if the user wants that."""
    from llmctl import paths

    return paths.data_dir() / "chat_history"


def _history(loaded: Settings) -> Path | None:
    return history_file() if loaded.chat_history else None


def _forget(out: Output) -> None:
    from llmctl.errors import ResourceError

    file = history_file()
    try:
        file.unlink()
        out.note(f"{file} is deleted")
    except FileNotFoundError:
        out.note("no prompts are kept")
    except OSError as error:
        raise ResourceError(f"{file} can't be deleted: {error.strerror or error}") from error
