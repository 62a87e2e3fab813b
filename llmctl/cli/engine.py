"""``llmctl engine``: what runs models on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl import units
from llmctl.cli import lazy
from llmctl.cli.output import Output
from llmctl.cli.table import table
from llmctl.errors import UsageError
from llmctl.types.engine_name import BuildName, EngineName

if TYPE_CHECKING:
    from llmctl.workspace.engine import Listed

app = lazy.plain(help="What runs models on this machine.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
HEADS = ("  name", "version", "runs on", "state", "disk", "where")
AUTO = "auto"


@app.command(name="list")
def list_(json: Json = False) -> None:
    """Show the engines on this machine, and which one answers.

    \b
    Example:
      llmctl engine list

    "installed" is the llama-cpp-python that came with llmctl, which answers unless you say otherwise; cpu, cuda, rocm,
    vulkan and metal are builds of it by `llmctl engine install`. A llama-server is known by the setting llama_server,
    was compiled by `llmctl engine install`, or is on PATH. Each is asked for its version and its devices. "disk" is
    what `llmctl engine remove NAME` frees.

    Exit codes: 0, 10 the configuration is broken.
    """
    from llmctl.workspace import engine
    from llmctl.workspace.configuration import load

    out = Output("engine list", as_json=json)
    engines = engine.listed(out, load(out))
    for line in table([HEADS, *map(_row, engines)], "<<<<><"):
        out.text(line)
    for listed in engines:
        if not listed.about.usable:
            out.text(f"{_name(listed)} is not usable: {listed.about.why}")
    if not any(listed.name is EngineName.LLAMA_SERVER for listed in engines):
        out.note("There is no llama-server.")
        out.note("  next: llmctl engine install llama-server")
    out.data({"engines": [_document(listed) for listed in engines]})


def _row(listed: Listed) -> tuple[str, ...]:
    about = listed.about
    return (
        f"{'▸' if listed.is_used else ' '} {_name(listed)}",
        about.version or "?",
        ", ".join(about.backends) or "?",
        "usable" if about.usable else "not usable",
        "" if listed.bytes is None else units.size(listed.bytes),
        listed.path or "this Python",
    )


def _name(listed: Listed) -> str:
    """As `engine use` takes it."""
    return listed.build_name or listed.name


def _document(listed: Listed) -> dict[str, Any]:
    about = listed.about
    shown: dict[str, Any] = {
        "name": listed.name,
        "version": about.version,
        "build": about.build,
        "backends": about.backends,
    }
    shown |= {"usable": about.usable, "why": about.why, "path": listed.path, "source": listed.source}
    shown |= {"stale": listed.is_stale, "used": listed.is_used, "build_name": listed.build_name}
    return shown | {"bytes": listed.bytes}


def _installable(incomplete: str) -> list[str]:
    return [name for name in (EngineName.LLAMA_SERVER, *BuildName) if name.startswith(incomplete)]


def _usable(incomplete: str) -> list[str]:
    from llmctl.workspace.engine import BUILDS

    return [name for name in (AUTO, *EngineName, *BUILDS) if name.startswith(incomplete)]


@app.command()
def install(
    name: Annotated[
        str,
        typer.Argument(
            help="A build of llama-cpp-python (cpu, cuda, rocm, vulkan, metal), or llama-server.",
            autocompletion=_installable,
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Yes to fetching and compiling it.")] = False,
    json: Json = False,
) -> None:
    """Install a build of llama-cpp-python for this machine's hardware, or compile llama-server.

    \b
    Examples:
      llmctl engine install vulkan
      llmctl engine install llama-server

    A build comes as a wheel from the index of llama-cpp-python where there is one for this machine; else it is
    compiled, which takes minutes: it is said before how long, and why. It lies beside the build in use, has to compute
    and to answer with the smallest model on this machine, and answers for good after `llmctl engine use NAME`.

    llama-server is compiled from the sources that llama-cpp-python ships, for the libraries that are installed here. An
    update of llama-cpp-python makes it unusable: then run this again. It answers when you ask for it: llmctl run
    --engine llama-server, llmctl engine use llama-server.

    What is compiled needs a C++ compiler, llama-server also cmake. Nothing is left of what fails or is stopped but a
    log, and what was there before stays until the new one has answered.

    Exit codes: 0 there is one, 2 nobody said yes, or no hardware for it, 5 network, 6 a broken download, 7 disk full,
    or it is being installed by another process, 8 it can't be compiled, or doesn't answer.
    """
    from llmctl.near import did_you_mean, near
    from llmctl.workspace import engine
    from llmctl.workspace.configuration import load

    names = [EngineName.LLAMA_SERVER, *BuildName]
    if name not in names:
        only = f"only {', '.join(names)}{did_you_mean(near(name, names))}"
        raise UsageError(f"{name!r} can't be installed by llmctl, {only}", hint="llmctl engine install --help")
    out = Output("engine install", as_json=json)
    if name == EngineName.LLAMA_SERVER:
        path = engine.install(out, load(out), yes=yes)
        out.note(f"llama-server is {path}.")
        out.note("  next: llmctl run --engine llama-server …   or for every run: llmctl engine use llama-server")
    else:
        path = engine.install_build(out, load(out), BuildName(name), yes=yes)
        out.note(f"The build for {name} is in {path}.")
        out.note(f"  next: llmctl engine use {name}   (back: llmctl engine use installed)")
    out.data({"name": name, "path": str(path)})


@app.command()
def use(
    name: Annotated[
        str,
        typer.Argument(
            help="auto, llama-cpp, llama-server, or a build: installed, cpu, cuda, rocm, vulkan, metal.",
            autocompletion=_usable,
        ),
    ],
    path: Annotated[Path | None, typer.Option("--path", metavar="FILE", help="A llama-server of your own.")] = None,
    json: Json = False,
) -> None:
    """Set which engine, or which build of it, answers on this machine from now on.

    \b
    Examples:
      llmctl engine use vulkan
      llmctl engine use installed
      llmctl engine use llama-server --path /opt/llama.cpp/bin/llama-server
      llmctl engine use auto

    A build of llama-cpp-python is used once it has computed something; "installed" is the one that was installed with
    llmctl, which always stays. The other names are written into your configuration file, as the settings engine and
    llama_server. With auto, llmctl chooses: llama-cpp-python where it can be used, else a llama-server. For one answer
    alone: llmctl run --engine NAME.

    Exit codes: 0, 2 no such engine, 4 no such build is here, 7 another process keeps the configuration locked, 8 it
    can't be used, 10 the configuration is broken.
    """
    from llmctl.workspace import engine
    from llmctl.workspace.configuration import load

    out = Output("engine use", as_json=json)
    file = engine.use(name, path, load(out))
    if name in engine.BUILDS:
        out.note(f"llama-cpp-python ({name}) answers from now on.")
    else:
        out.note(f"Set in {file}: engine = {name}.")
    out.data({"engine": None if name in (AUTO, *engine.BUILDS) else name, "file": str(file)})


@app.command()
def remove(
    name: Annotated[
        str,
        typer.Argument(help="A build (cpu, cuda, rocm, vulkan, metal), or llama-server.", autocompletion=_installable),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: Json = False,
) -> None:
    """Remove an engine that `llmctl engine install` has installed, to free its disk.

    \b
    Examples:
      llmctl engine remove vulkan
      llmctl engine remove llama-server --yes

    What is in use stays, and so does the llama-cpp-python that came with llmctl. `llmctl engine list` shows what each
    takes. On a terminal it asks; elsewhere it needs --yes.

    Exit codes: 0 removed, or you said no, 2 nobody said yes, no such engine, or it is in use, 4 it is not here, 7 it is
    being installed, or can't be removed, 10 the configuration is broken.
    """
    from llmctl.workspace import engine_removal
    from llmctl.workspace.configuration import load

    out = Output("engine remove", as_json=json)
    removal = engine_removal.removal(out, load(out), name)
    size = units.size(removal.bytes)
    if not (yes or out.interactive):
        raise UsageError(
            f"removing {name} frees {size}, and nobody said yes", hint=f"llmctl engine remove {name} --yes"
        )
    if not out.confirm(f"Remove {name}, {size}?", yes=yes, by_default=False):
        out.note("Nothing was removed.")
        return
    engine_removal.remove(removal)
    out.note(f"Removed {name}: {size} freed")
    out.data({"name": name, "freed_bytes": removal.bytes})
