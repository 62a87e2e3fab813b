"""Programs of others with an engine of this machine: which there are, and how each is started with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from string import Template
from types import FrameType
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from llmctl import paths
from llmctl.errors import NotFoundError, UsageError
from llmctl.files.decode import read_toml
from llmctl.near import did_you_mean, near
from llmctl.shell import command

if TYPE_CHECKING:
    from llmctl.catalogue.knowledge import Task
    from llmctl.types.plan import Fit
    from llmctl.workspace.local_run import Asked
    from llmctl.workspace.programs import EngineAccess

HIDDEN = "***"  # stands for the key where a start is only shown
UNKNOWN_ADDRESS = "http://127.0.0.1:PORT/v1"
UNKNOWN_FOLDER = "FOLDER"


class ApiShape(StrEnum):
    """The API that a tool speaks."""

    CHAT = "chat"
    RESPONSES = "responses"
    MESSAGES = "messages"


class LaunchedTool(Struct, frozen=True):
    """A row of ``profiles/tools.toml``, where the fields are explained."""

    name: str
    title: str
    program: str
    install: str
    source: str
    task: str
    shape: ApiShape = ApiShape.CHAT
    arguments: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


class Start(Struct, frozen=True):
    """How a tool is started: its command, and what is set beside the user's environment. ``files``: by name, for the
    folder whose path is in the environment."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    files: Mapping[str, str]


def tools() -> Mapping[str, LaunchedTool]:
    """By name. Raises ConfigError."""
    return read_toml(
        paths.profiles_dir() / "tools.toml",
        lambda table: {name: row.fill(LaunchedTool, name=name) for name, row in table.named_tables().items()},
    )


def find(name: str) -> LaunchedTool:
    """Raises NotFoundError for a tool that llmctl does not know."""
    rows = tools()
    tool = rows.get(name.lower())
    if tool is None:
        also = did_you_mean(near(name, rows)) or f", only {', '.join(rows)}"
        raise NotFoundError(f"llmctl knows no tool named {name!r}{also}", hint="llmctl launch --help")
    return tool


def gateway_for(tool: LaunchedTool, asked: Asked) -> EngineAccess | None:
    """The gateway that runs, where it has a model for the tool, with the context that the tool needs or that was asked
    for. Raises UsageError for a tool that an engine alone can't serve, where no gateway can either."""
    from llmctl.workspace.programs import of_gateway

    context = asked.context or _task_of(tool).context
    access = of_gateway(replace(asked, context=context), tool.task)
    if access is None and tool.shape is not ApiShape.CHAT:
        names = [] if asked.model is None else [asked.model]
        raise UsageError(
            f"{tool.title} speaks {WORDS[tool.shape]}, which a gateway answers, and none runs with so much context "
            f"({context:,} tokens)",
            hint=command("llmctl", "serve", "--detach", "--context", str(context), names=names),
        )
    return access


WORDS: Mapping[ApiShape, str] = {
    ApiShape.RESPONSES: "OpenAI's responses API",
    ApiShape.MESSAGES: "Anthropic's messages API",
}


def program(tool: LaunchedTool) -> str | None:
    """The path of the tool's program; None where it isn't installed."""
    return shutil.which(tool.program)


def require_program(tool: LaunchedTool) -> str:
    """Raises NotFoundError."""
    path = program(tool)
    if path is None:
        raise NotFoundError(f"{tool.title} is not installed: there is no {tool.program} on PATH", hint=tool.install)
    return path


def start(tool: LaunchedTool, access: EngineAccess, arguments: Sequence[str], folder: str) -> Start:
    """``arguments`` are the user's."""
    values = _values(access, folder)
    filled = (*(_filled(word, values) for word in tool.arguments), *(arguments or tool.alone))
    environment = {name: _filled(text, values) for name, text in tool.environment.items()}
    return Start(
        (tool.program, *filled), environment, {name: _filled(text, values) for name, text in tool.files.items()}
    )


class Subject(Struct, frozen=True):
    """The model that a tool would have. ``why``: why it is not recommended for the tool, None where it is."""

    name: str
    quant: str
    context: int
    why: str | None = None


def planned_start(tool: LaunchedTool, fit: Fit, arguments: Sequence[str]) -> Start:
    """The start that would come of ``fit``, without what is known then alone: port, key and folder."""
    from llmctl.workspace.programs import EngineAccess

    model, quant = fit.candidate.model.id, fit.candidate.artifact.quant
    access = EngineAccess(UNKNOWN_ADDRESS, HIDDEN, model, quant, fit.context, None, was_warm=False)
    return start(tool, access, arguments, UNKNOWN_FOLDER)


def first_prompt_tokens(tool: LaunchedTool) -> int:
    """What the tool sends before its first answer, by its task. Raises ConfigError."""
    return _task_of(tool).prompt_tokens


def _task_of(tool: LaunchedTool) -> Task:
    from llmctl.catalogue.knowledge import read_tasks

    return read_tasks(paths.profiles_dir())[tool.task]


def _values(access: EngineAccess, folder: str) -> Mapping[str, str]:
    return {
        "url": access.base_url,
        "host": access.base_url.removesuffix("/v1"),
        "key": access.api_key,
        "model": access.model,
        "context": str(access.context),
        "folder": folder,
        "json_url": json.dumps(access.base_url),
        "json_model": json.dumps(access.model),
        "json_openai_model": json.dumps(f"openai/{access.model}"),
        "json_llmctl_model": json.dumps(f"llmctl/{access.model}"),
    }


def _filled(text: str, values: Mapping[str, str]) -> str:
    return Template(text).substitute(values)


def run(tool: LaunchedTool, access: EngineAccess, arguments: Sequence[str]) -> int:
    """Starts the tool and waits for its end: its exit code, as a shell has it. Ctrl-C is the tool's alone, and a signal
    that ends llmctl ends the tool. Raises NotFoundError for one that isn't installed."""
    path = require_program(tool)
    with tempfile.TemporaryDirectory(prefix="llmctl-") as folder:  # nobody else may read it
        made = start(tool, access, arguments, folder)
        for name, text in made.files.items():
            Path(folder, name).write_text(text, "utf-8")
        process = subprocess.Popen([path, *made.argv[1:]], env={**os.environ, **made.environment})
        with process, _handing_on(process):
            code = process.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _handing_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """SIGINT is left to the process, which the terminal sends it to as well; SIGTERM is handed on."""

    def nothing(number: int, frame: FrameType | None) -> None:
        """The tool has heard it."""

    def terminate(number: int, frame: FrameType | None) -> None:
        process.terminate()

    before = {signal.SIGINT: signal.getsignal(signal.SIGINT), signal.SIGTERM: signal.getsignal(signal.SIGTERM)}
    signal.signal(signal.SIGINT, nothing)
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
