"""``llmctl engine``: what runs models on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl.cli import lazy
from llmctl.cli.output import Output
from llmctl.cli.table import table
from llmctl.errors import UsageError
from llmctl.types.engine_name import EngineName

if TYPE_CHECKING:
    from llmctl.workspace.engine import Listed

app = lazy.plain(help="What runs models on this machine.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
HEADS = ("", "engine", "version", "runs on", "state", "where")
AUTO = "auto"


@app.command(name="list")
def list_(json: Json = False) -> None:
    """Show the engines on this machine, and which one answers.

    \b
    Example:
      llmctl engine list

    llama-cpp-python is installed with llmctl and answers unless you say otherwise. A llama-server is known by the
    setting llama_server, was compiled by `llmctl engine install`, or is on PATH: each is asked for its version and its
    devices.

    Exit codes: 0, 10 the configuration is broken.
    """
    from llmctl.workspace import engine
    from llmctl.workspace.configuration import load

    out = Output("engine list", as_json=json)
    engines = engine.listed(out, load(out))
    for line in table([HEADS, *map(_row, engines)], "<<<<<<", gap=1):
        out.text(line)
    if not any(listed.name is EngineName.LLAMA_SERVER for listed in engines):
        out.note("There is no llama-server.")
        out.note("  next: llmctl engine install llama-server")
    out.data({"engines": [_document(listed) for listed in engines]})


def _row(listed: Listed) -> tuple[str, ...]:
    about = listed.about
    version = " ".join(filter(None, (about.version, f"({about.build})" if about.build else None)))
    state = "usable" if about.usable else f"not usable: {about.why}"
    mark = "▸" if listed.is_used else ""
    return (mark, about.name, version or "?", ", ".join(about.backends) or "?", state, listed.path or "this Python")


def _document(listed: Listed) -> dict[str, Any]:
    about = listed.about
    shown: dict[str, Any] = {
        "name": listed.name,
        "version": about.version,
        "build": about.build,
        "backends": about.backends,
    }
    shown |= {"usable": about.usable, "why": about.why, "path": listed.path, "source": listed.source}
    return shown | {"stale": listed.is_stale, "used": listed.is_used}


@app.command()
def install(
    name: Annotated[str, typer.Argument(help="llama-server.", autocompletion=lambda: ["llama-server"])],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Yes to fetching and compiling it.")] = False,
    json: Json = False,
) -> None:
    """Compile llama-server from the sources that llama-cpp-python ships, for the libraries that are installed here.

    \b
    Example:
      llmctl engine install llama-server

    Fetches the source distribution with pip, compiles llama.cpp's server (it is said before how long that takes), tries
    it with the smallest model on this machine, and puts it into the data folder. Nothing is left of what fails or is
    stopped but a log. An update of llama-cpp-python makes it unusable: then run this again. Needs cmake and a C++
    compiler. It answers when you ask for it: llmctl run --engine llama-server, llmctl engine use llama-server.

    Exit codes: 0 there is one, 2 nobody said yes, 5 network, 6 a broken download, 7 disk full, or it is being compiled
    by another process, 8 it can't be compiled, or doesn't answer.
    """
    from llmctl.workspace import engine
    from llmctl.workspace.configuration import load

    if name != EngineName.LLAMA_SERVER:
        hint = "llmctl engine install llama-server"
        raise UsageError(f"{name!r} can't be installed by llmctl, only llama-server", hint=hint)
    out = Output("engine install", as_json=json)
    program = engine.install(out, load(out), yes=yes)
    out.note(f"llama-server is {program}.")
    out.note("  next: llmctl run --engine llama-server …   or for every run: llmctl engine use llama-server")
    out.data({"name": name, "path": str(program)})


@app.command()
def use(
    name: Annotated[
        str,
        typer.Argument(help="llama-cpp, llama-server or auto.", autocompletion=lambda: [AUTO, *EngineName]),
    ],
    path: Annotated[Path | None, typer.Option("--path", metavar="FILE", help="A llama-server of your own.")] = None,
    json: Json = False,
) -> None:
    """Set which engine answers on this machine from now on.

    \b
    Examples:
      llmctl engine use llama-server
      llmctl engine use llama-server --path /opt/llama.cpp/bin/llama-server
      llmctl engine use auto

    Writes the settings engine and llama_server into your configuration file. With auto, llmctl chooses:
    llama-cpp-python where it can be used, else a llama-server. For one answer alone: llmctl run --engine NAME.

    Exit codes: 0, 2 no such engine, 7 another process keeps the configuration locked, 8 there is no llama-server that
    can be used, 10 the configuration is broken.
    """
    from llmctl.workspace import engine
    from llmctl.workspace.configuration import load

    out = Output("engine use", as_json=json)
    file = engine.use(name, path, load(out))
    out.note(f"Set in {file}: engine = {name}.")
    out.data({"engine": None if name == AUTO else name, "file": str(file)})
