"""``llmctl mcp``: this machine's models for agents, by the Model Context Protocol."""

from __future__ import annotations

import sys

import typer

from llmctl.cli import PIPE_CLOSED
from llmctl.cli.output import Output
from llmctl.errors import UsageError

EXTRA = 'pip install "llmctl[mcp]"'


def mcp() -> None:
    """Serve tools to an agent on stdin and stdout: plan, doctor, models, search and ask.

    \b
    Examples:
      {"command": "llmctl", "args": ["mcp"]}   for a client's list of servers
      claude mcp add llmctl -- llmctl mcp      for Claude Code

    \b
    plan     which model suits a task on this machine, how fast it is, and why
    doctor   what this machine is, and what to mend
    models   the models on this machine
    search   models of the catalogue, by a few words
    ask      the answer of a model on this machine

    Nothing is fetched, changed or deleted: a model that is to answer must be here (llmctl pull). A prompt stays on this
    machine, as with llmctl run --local, unless your policy is prefer-remote or remote-only: nobody reads what stderr
    says before a server is asked. Each result of ask says where the answer was made and what left. With the setting
    keep_alive the model stays loaded from one question to the next.

    Calls are answered one after the other. Ends when stdin does, and an engine that doesn't stay ends with it.

    Exit codes: 0 the client has closed, 2 the package mcp is not installed, 130 Ctrl-C, 141 nobody reads the answers.
    """
    out = Output("mcp")
    try:
        from llmctl.mcp.server import serve
    except ImportError as error:  # an older one lacks names
        if error.name is None or error.name.startswith("llmctl"):
            raise
        raise UsageError(
            "agents are spoken to by the package mcp, 2.3 or newer, which is not installed", hint=EXTRA
        ) from error
    if sys.stdin.isatty():
        out.note("Waiting for an agent's messages on stdin; Ctrl-C ends it. `llmctl mcp --help` says how it is set up.")
    try:
        serve()
    except BrokenPipeError as error:
        raise typer.Exit(PIPE_CLOSED) from error
