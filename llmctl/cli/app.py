"""The Typer application, and the one place where errors become words and exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]  # what add_completion=True would call

from llmctl import __version__
from llmctl.cli import INTERRUPTED, PIPE_CLOSED, lazy, signals, streams
from llmctl.cli.output import Output
from llmctl.cli.values import spare_conversion
from llmctl.errors import LlmctlError, NotFoundError, ResourceError, UsageError

PYDANTIC = "Value error, "  # what it puts before typer's own words

spare_conversion()

VERBS = {
    "setup": "llmctl.cli.setup:setup",
    "run": "llmctl.cli.run:run",
    "chat": "llmctl.cli.chat:chat",
    "embed": "llmctl.cli.embed:embed",
    "rerank": "llmctl.cli.rerank:rerank",
    "search": "llmctl.cli.search:search",
    "index": "llmctl.cli.index:app",
    "plan": "llmctl.cli.plan:plan",
    "doctor": "llmctl.cli.doctor:doctor",
    "bugreport": "llmctl.cli.bugreport:bugreport",
    "pull": "llmctl.cli.pull:pull",
    "ps": "llmctl.cli.ps:ps",
    "stop": "llmctl.cli.stop:stop",
    "env": "llmctl.cli.env:env",
    "launch": "llmctl.cli.launch:app",
    "bench": "llmctl.cli.bench:bench",
    "route": "llmctl.cli.route:route",
    "receipts": "llmctl.cli.receipts:receipts",
    "completion": "llmctl.cli.completion:app",
    "models": "llmctl.cli.models:app",
    "endpoint": "llmctl.cli.endpoint:app",
    "engine": "llmctl.cli.engine:app",
    "token": "llmctl.cli.token:app",
    "config": "llmctl.cli.config:app",
    "logs": "llmctl.cli.logs:logs",
    "serve": "llmctl.cli.serve:app",
    "web": "llmctl.cli.web:web",
    "mcp": "llmctl.cli.mcp:mcp",
    "score": "llmctl.cli.score:app",
    "he": "llmctl.cli.he:app",
}
GROUPS = ("index", "models", "endpoint", "engine", "token", "config", "completion", "score", "he")

app = lazy.application(
    VERBS,
    name="llmctl",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from llmctl.workspace.engine import summary

        first, *others = summary()
        print("\n".join([f"llmctl {__version__} · {first}", *others]))  # noqa: T201
        raise typer.Exit


@app.callback()
def llmctl(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print version and engine build.")
    ] = False,
) -> None:
    """From a bare machine to a private language model that is right for it.

    \b
    Examples:
      llmctl setup                      be led through it, to the first answer
      llmctl run "Why is the sky blue?" answer on this machine
      llmctl chat                       talk with it
      git diff | llmctl run "Write the commit message"
      llmctl plan                       what would run here, how fast, and why
      llmctl doctor                     what this machine is, and what to mend

    Prompts stay on this machine unless you add a server of your own with `llmctl endpoint add`.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the contract's exit code. Nothing below prints an error or a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    streams.prepare()
    completion_init()
    Output(_command(arguments), as_json="--json" in arguments)  # for errors that come before the command's own
    code = 0
    with signals.raised() as received:
        try:
            code = _outcome(arguments, received)
            streams.finish()
        except (OSError, SystemExit):  # typer and rich turn a closed pipe into exit(1)
            if streams.stdout_error() is None:
                raise
            streams.finish()
    if received.exit_code is not None:
        return received.exit_code
    error = streams.stdout_error()
    return code if error is None else _unwritten(error)


def _outcome(arguments: Sequence[str], received: signals.Received) -> int:
    """The exit code of the command, its error told. Raises what writing raises."""
    try:
        code = int(app(arguments, prog_name="llmctl", standalone_mode=False) or 0)
        if code == INTERRUPTED:  # what typer makes of KeyboardInterrupt
            raise KeyboardInterrupt
        return code
    except LlmctlError as error:
        return _told(partial(Output.latest.failed, error), error.exit_code)
    except typer.TyperException as error:
        return _told(partial(_usage, Output.latest, error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _told(partial(Output.latest.interrupted, received.name), INTERRUPTED)
    except FileNotFoundError:
        if _has_working_directory():
            raise
        gone = NotFoundError("the working directory is no longer there", hint="cd   to a folder that is, then again")
        return _told(partial(Output.latest.failed, gone), gone.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or streams.stdout_error() is not None:
            raise
        full = ResourceError(f"the disk is full: {error.filename or 'a file'} could not be written")
        return _told(partial(Output.latest.failed, full), full.exit_code)


def _has_working_directory() -> bool:
    try:
        os.getcwd()  # noqa: PTH109  pathlib's does the same
    except FileNotFoundError:
        return False
    return True


def _told(tell: Callable[[], Any], code: int) -> int:
    """An error that comes of a stdout that can't be written is not told beside that."""
    if streams.stdout_error() is None:
        tell()
    return code


def _unwritten(error: OSError) -> int:
    """Says that the answer could not be written, with --json as well; not to one who has had enough of it."""
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED
    failure = ResourceError(f"the output could not be written: {(error.strerror or str(error)).lower()}")
    replace(Output.latest, as_json=False).failed(failure)
    return failure.exit_code


def _usage(out: Output, error: typer.TyperException) -> None:
    message = error.format_message().replace(PYDANTIC, "")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "llmctl"
    if message.startswith("Usage:"):  # no command was given: the help itself is the answer
        sys.stderr.write(f"{message}\n")
    else:
        out.failed(UsageError(_in_a_line(message), hint=f"{path} --help"))


def _in_a_line(message: str) -> str:
    """click's message as one of ours: it lists choices one a line."""
    return " ".join(f"{message[:1].lower()}{message[1:].rstrip('.')}".split())


def _command(arguments: Sequence[str]) -> str:
    """The command's name for the envelope, known even where parsing fails: "run", "endpoint add"."""
    words = [word for word in arguments if not word.startswith("-")]
    return " ".join(words[: 2 if words[:1] and words[0] in GROUPS else 1]) or "llmctl"
