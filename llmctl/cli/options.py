"""Options that commands share: one name, one short letter, one help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.errors import UsageError
from llmctl.types.engine_name import EngineName

if TYPE_CHECKING:
    from llmctl.settings import Settings

Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="NAME[:QUANT], any of `models list`, or FILE.gguf.", autocompletion=complete.models
    ),
]
Task = Annotated[
    str | None, typer.Option("--task", help="What the model is chosen for.", autocompletion=complete.tasks)
]
GoOn = Annotated[bool, typer.Option("--continue", "-c", help="Go on with the last conversation, if it was kept.")]
Context = Annotated[int | None, typer.Option("--context", min=256, help="Tokens of context.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", "-n", min=1, help="Longest answer.")]
Temperature = Annotated[float | None, typer.Option("--temperature", min=0, max=2, help="Sampling.")]
Seed = Annotated[
    int | None, typer.Option("--seed", help="For an answer that can be repeated; its prompt is read anew.")
]
Threads = Annotated[int | None, typer.Option("--threads", "-t", min=1, help="Threads to decode with.")]
DraftModel = Annotated[
    str | None,
    typer.Option(
        "--draft",
        metavar="MODEL",
        help="A smaller model that guesses ahead for the one that answers.",
        autocompletion=complete.models,
    ),
]
LocalOnly = Annotated[bool, typer.Option("--local", help="On this machine or not at all.")]
Private = Annotated[bool, typer.Option("--private", help="Never leaves this machine, whatever the policy says.")]
Server = Annotated[
    str | None,
    typer.Option("--endpoint", "-e", help="On this server or not at all.", autocompletion=complete.endpoints),
]
MinTokS = Annotated[
    float | None, typer.Option("--min-tok-s", min=0, help="A server answers if nothing here writes as fast.")
]
MaxFirstToken = Annotated[
    str | None,
    typer.Option("--max-first-token", metavar="TIME", help="A server answers if this machine takes longer: 10s."),
]
MaxDownload = Annotated[
    str | None,
    typer.Option("--max-download", metavar="SIZE", help="A server answers if more has to be fetched: 2GB."),
]
Remote = Annotated[bool, typer.Option("--remote", help="On a server of yours or not at all.")]
Engine = Annotated[
    EngineName | None, typer.Option("--engine", help="What runs the model here; llmctl chooses by itself.")
]
KeepAlive = Annotated[
    str | None,
    typer.Option("--keep-alive", help="How long the model stays loaded: 30s, 5m, 1h, 0, or -1 for ever."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Yes to every question, downloads included.")]
Offline = Annotated[bool, typer.Option("--offline", help="Fetch nothing, and ask no server on another machine.")]


def require_names(command: str, names: Mapping[str, str | None]) -> None:
    """Raises UsageError for an option that was given nothing, as by an empty variable: it is not the same as none."""
    for option, value in names.items():
        if value is not None and not value.strip():
            raise UsageError(f"{option} was given an empty name", hint=f"llmctl {command} --help")


def for_call(loaded: Settings, *, task: str | None, remote: bool) -> Settings:
    """The settings with the policy of this call: that of its task, or that of ``--remote``. Raises PolicyError."""
    loaded = loaded.for_task(task)
    return loaded.for_remote() if remote else loaded


def with_limits(loaded: Settings, command: str, **given: str | float | None) -> Settings:
    """The settings with the limits of this call, beyond which a server answers. Raises UsageError."""
    from msgspec.structs import replace

    return replace(
        loaded, **{name: _parsed(command, name, value) for name, value in given.items() if value is not None}
    )


def _parsed(command: str, name: str, text: str | float) -> object:
    """The value of the option that stands for the setting ``name``. Raises UsageError."""
    from llmctl.settings import setting_named

    setting = setting_named(name)
    try:
        return setting.parse(text)
    except ValueError as error:
        option = f"--{name.replace('_', '-')}"
        message = f"{option} is {text!r}, it must be {setting.expects}"
        raise UsageError(message, hint=f"llmctl {command} --help") from error


def require_one_side(*, local: bool, remote: bool, endpoint: str | None) -> None:
    """Raises UsageError where it was said twice what is to answer."""
    given = {"--local": local, "--remote": remote, "--endpoint": endpoint is not None}
    names = [name for name, is_given in given.items() if is_given]
    if len(names) > 1:
        raise UsageError(f"{names[0]} and {names[1]} exclude each other")


def settings_with(out: Output, *, offline: bool, keep_alive: str | None, engine: EngineName | None = None) -> Settings:
    """The settings with what the command line has of them. Raises UsageError, and ConfigError."""
    from msgspec.structs import replace

    from llmctl.workspace import configuration

    loaded = configuration.load(out)
    loaded = replace(loaded, offline=loaded.offline or offline, engine=engine or loaded.engine)
    return loaded if keep_alive is None else replace(loaded, keep_alive=_duration_s(out.command, keep_alive))


def _duration_s(command: str, text: str) -> float:
    """Raises UsageError."""
    from llmctl import units
    from llmctl.settings.table import DURATIONS

    try:
        return units.duration_s(text)
    except ValueError as error:
        message = f"--keep-alive is {text!r}, it must be {DURATIONS}"
        raise UsageError(message, hint=f"llmctl {command} --help") from error
