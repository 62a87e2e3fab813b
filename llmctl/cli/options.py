"""Options that commands share: one name, one short letter, one help."""

from __future__ import annotations

from typing import Annotated

import typer

from llmctl.cli import complete
from llmctl.types.engine import EngineName

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
Seed = Annotated[int | None, typer.Option("--seed", help="For an answer that can be repeated.")]
Threads = Annotated[int | None, typer.Option("--threads", "-t", min=1, help="Threads to decode with.")]
LocalOnly = Annotated[bool, typer.Option("--local", help="On this machine or not at all.")]
Private = Annotated[bool, typer.Option("--private", help="Never leaves this machine, whatever the policy says.")]
Server = Annotated[
    str | None,
    typer.Option("--endpoint", "-e", help="On this server or not at all.", autocompletion=complete.endpoints),
]
Engine = Annotated[
    EngineName | None, typer.Option("--engine", help="What runs the model here; llmctl chooses by itself.")
]
KeepAlive = Annotated[
    str | None,
    typer.Option("--keep-alive", help="How long the model stays loaded: 30s, 5m, 1h, 0, or -1 for ever."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Yes to every question, downloads included.")]
Offline = Annotated[bool, typer.Option("--offline", help="Fetch nothing, and ask no server on another machine.")]
