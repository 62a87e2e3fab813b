"""``llmctl env``: the address of a gateway or a warm engine, for other programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl import units
from llmctl.cli import complete, options
from llmctl.cli.completion import Shell
from llmctl.cli.output import Output
from llmctl.errors import UsageError
from llmctl.shell import command, quoted

if TYPE_CHECKING:
    from llmctl.workspace.programs import EngineAccess


def env(
    model: Annotated[
        str | None,
        typer.Argument(help="NAME[:QUANT] or FILE.gguf; else what was used last.", autocompletion=complete.models),
    ] = None,
    task: options.Task = None,
    context: options.Context = None,
    shell: Annotated[Shell | None, typer.Option("--shell", help="Whose syntax; that of $SHELL without.")] = None,
    keep_alive: Annotated[
        str | None, typer.Option("--keep-alive", help="How long the model stays loaded: 30s, 5m, 1h, or -1 for ever.")
    ] = None,
    yes: options.Yes = False,
    offline: options.Offline = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the variables.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Print address, key and model of the gateway or warm engine, for programs that speak OpenAI's API.

    \b
    Examples:
      eval "$(llmctl env)"
      eval "$(llmctl env qwen3.5-4b --keep-alive 2h)"
      llmctl env --shell fish | source
      llmctl env --shell powershell | Out-String | Invoke-Expression
      llmctl env --json | jq -r .data.base_url

    OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL are what most programs read. Where `llmctl serve` runs here and has
    the model, its address is meant, and ANTHROPIC_BASE_URL, ANTHROPIC_AUTH_TOKEN and ANTHROPIC_MODEL are set as well.
    Of the engines that stay loaded the one that was used last is meant, or the one with MODEL and at least the context
    that is asked for; where there is none, it is started. It stays while programs use it, and after that for as long as
    the setting keep_alive says, half an hour where that is 0; `llmctl stop` ends it. Only programs of this machine
    reach the address, and only with the key, which is a new one for each engine. An embedding model answers
    /v1/embeddings.

    Exit codes: 0 done, 3 nothing fits, 4 no such model (or it needs a download and nobody said yes), 7 no engine can
    stay here, 8 the engine failed.
    """
    from llmctl.workspace.local_run import Asked
    from llmctl.workspace.programs import access

    out = Output("env", as_json=json, quiet=quiet)
    options.require_names("env", {"MODEL": model})
    loaded = options.settings_with(out, offline=offline, keep_alive=keep_alive)
    if keep_alive is not None and not loaded.keep_alive:
        raise UsageError("with --keep-alive 0 the engine ends at once, and has no address", hint="llmctl env --help")
    asked = Asked(model, task, context, None, 0, None)
    engine = access(out, loaded, asked, insist=keep_alive is not None, yes=yes)
    out.note(_story(engine))
    shell = shell or _own_shell(os.environ)
    for line in lines(variables(engine), shell):
        out.text(line)
    if sys.stdout.isatty():
        out.note(f"in this shell:  {TAKEN[shell]}")
    out.data(engine)


def variables(engine: EngineAccess) -> Mapping[str, str]:
    values = {
        "OPENAI_BASE_URL": engine.base_url,
        "OPENAI_API_KEY": engine.api_key,
        "OPENAI_MODEL": engine.model,
    }
    if engine.anthropic_base_url is None:
        return values
    return values | {
        "ANTHROPIC_BASE_URL": engine.anthropic_base_url,
        "ANTHROPIC_AUTH_TOKEN": engine.api_key,
        "ANTHROPIC_MODEL": engine.model,
    }


def lines(values: Mapping[str, str], shell: Shell) -> list[str]:
    """Commands that set the variables in ``shell``."""
    return [SYNTAX[shell](name, value) for name, value in values.items()]


def _posix(name: str, value: str) -> str:
    return f"export {name}={quoted(value)}"


def _fish(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{escaped}'"


def _powershell(name: str, value: str) -> str:
    escaped = value.replace("'", "''")
    return f"$env:{name} = '{escaped}'"


SYNTAX: Mapping[Shell, Callable[[str, str], str]] = {
    Shell.BASH: _posix,
    Shell.ZSH: _posix,
    Shell.FISH: _fish,
    Shell.POWERSHELL: _powershell,
}


POSIX = 'eval "$(llmctl env)"'
TAKEN: Mapping[Shell, str] = {
    Shell.BASH: POSIX,
    Shell.ZSH: POSIX,
    Shell.FISH: "llmctl env | source",
    Shell.POWERSHELL: "llmctl env | Out-String | Invoke-Expression",
}
"""How each shell takes what is printed."""


def _own_shell(environ: Mapping[str, str]) -> Shell:
    """That of $SHELL, if its syntax is another than a POSIX shell's."""
    if os.name == "nt":
        return Shell.POWERSHELL
    name = Path(environ.get("SHELL", "")).name
    return {"fish": Shell.FISH, "pwsh": Shell.POWERSHELL}.get(name, Shell.BASH)


def _story(engine: EngineAccess) -> str:
    if engine.anthropic_base_url is not None:
        ends = command("llmctl", "stop", "serve")
        return f"{engine.model} {engine.quant} · {engine.context:,} tokens · by the gateway that runs ({ends} ends it)"
    stays = "for ever" if engine.keep_alive_s is None else f"for {units.seconds(engine.keep_alive_s)} without a use"
    ends = command("llmctl", "stop", names=[engine.name])
    return f"{engine.model} {engine.quant} · {engine.context:,} tokens · stays {stays} ({ends} ends it)"
