"""One row for each setting: its name, what it takes, what it means, and who may set it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from llmctl import units
from llmctl.types.engine_name import EngineName
from llmctl.types.policy import Policy

HUB_URL = "https://huggingface.co"
ON, OFF = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off", ""})
DURATIONS = "30s, 5m, 1h, 0 for not at all, or -1 for ever"
LAST_PORT = (1 << 16) - 1
MOST = (1 << 31) - 1  # llama.cpp counts tokens and threads in 32 bits


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or not 1 <= int(value) <= MOST:
        raise ValueError
    return int(value)


def _port(value: Any) -> int:
    if (port := _whole(value)) > LAST_PORT:
        raise ValueError
    return port


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not 0 <= float(value) < math.inf:
        raise ValueError
    return float(value)


def text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def address(value: Any) -> str:
    parts = urlsplit(text(value))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # ValueError: not a port
        raise ValueError
    return str(value)


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ON:
        return True
    if isinstance(value, str) and value.lower() in OFF:
        return False
    raise ValueError


def _duration(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return units.duration_s(str(value))


def _seconds(value: Any) -> float:
    if (seconds := _duration(value)) < 0:
        raise ValueError
    return seconds


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return units.parse_size(str(value))


def _absolute(value: Any) -> Path:
    path = Path(text(value)).expanduser()
    if not path.is_absolute():
        raise ValueError
    return path


def _places(value: Any) -> tuple[str, ...]:
    listed = value.split(os.pathsep) if isinstance(value, str) else value
    if not isinstance(listed, list):
        raise ValueError
    return tuple(map(text, listed))


class Setting(Struct, frozen=True):
    """``expects`` completes "must be …". ``project`` says whether a project file may set it."""

    name: str
    parse: Callable[[Any], Any]
    expects: str
    help: str
    default: Any = None
    project: bool = False
    also: tuple[str, ...] = ()

    def written(self, value: str) -> str | bool | int | float:
        """How the configuration has ``value``, which was typed. Raises ValueError, OverflowError."""
        parsed: Any = self.parse(value)
        return parsed if self.parse in (_flag, _whole, _number) else value

    @property
    def variable(self) -> str:
        return f"LLMCTL_{self.name.upper()}"

    def is_set_by(self, variable: str, value: str) -> bool:
        """Whether the value of ``variable`` sets this setting: an empty one doesn't, nor does "false" in another tool's
        variable, which would undo what the user has set for llmctl."""
        return bool(value) and not (variable in self.also and self.parse is _flag and value.lower() in OFF)


SETTINGS = (
    Setting("model", text, "a model's name", "the model that run uses without -m", project=True),
    Setting("task", text, "a task's name", "what plan and run choose for", default="chat", project=True),
    Setting(
        "context", _whole, f"a whole number of tokens, 1 to {MOST:,}", "context to plan and run with", project=True
    ),
    Setting("threads", _whole, f"a whole number of threads, 1 to {MOST:,}", "threads to decode with"),
    Setting("min_tok_s", _number, "a number of tokens per second", "slowest decoding to recommend", project=True),
    Setting(
        "policy",
        Policy,
        "one of " + ", ".join(Policy),
        "where prompts may go; prefer-local once an endpoint is added. A project file can make it stricter",
    ),
    Setting(
        "private_paths",
        _places,
        "a list of files and folders",
        "what stays on this machine whatever the policy, given with -f or --image; a project file can add to it",
        default=(),
    ),
    Setting(
        "max_first_token",
        _seconds,
        'a time, such as "10s"',
        "where this machine would take longer to its first token, a server of yours answers",
    ),
    Setting(
        "max_download",
        _size,
        'a size, such as "2GB"',
        "where this machine would have to fetch more first, a server of yours answers",
    ),
    Setting(
        "server_meanwhile",
        _flag,
        "true or false",
        "let a server of yours answer while the model that is to answer here is fetched",
        default=False,
    ),
    Setting("hub_url", address, "an http or https address", "the model hub", default=HUB_URL, also=("HF_ENDPOINT",)),
    Setting("offline", _flag, "true or false", "never use the network", default=False, also=("HF_HUB_OFFLINE",)),
    Setting(
        "keep_alive",
        _duration,
        DURATIONS,
        "how long an engine stays loaded after its last answer",
        default=0.0,
    ),
    Setting(
        "prompt_cache",
        _size,
        'a size, such as "2GB", or 0 for nothing',
        "disk for what the engine has computed of long prompts, so that the next question about them starts sooner",
        default=0,
    ),
    Setting(
        "engine", EngineName, "one of " + ", ".join(EngineName), "the engine that answers, in place of llmctl's choice"
    ),
    Setting("llama_server", _absolute, "an absolute path", "a llama-server of your own"),
    Setting("history", _flag, "true or false", "keep memory and speed of runs, never text", default=True),
    Setting(
        "speculate",
        _flag,
        "true or false",
        "draft tokens from what stood in the prompt, where it makes an answer faster",
        default=True,
    ),
    Setting("serve_port", _port, "a port, 1 to 65,535", "where serve listens", default=8484),
    Setting("serve_users", _whole, "a whole number", "requests that serve plans to answer at once"),
    Setting(
        "serve_idle", _duration, DURATIONS, "how long a model of serve stays loaded without a request", default=1800.0
    ),
    Setting("serve_queue", _whole, "a whole number", "requests that may wait for one model of serve", default=32),
    Setting("chat_history", _flag, "true or false", "keep conversations on disk, for -c and the Up key", default=False),
    Setting("markdown", _flag, "true or false", "show the Markdown of answers in a terminal's styles", default=True),
)


def setting_named(name: str) -> Setting:
    """The row of the table with that name."""
    return next(setting for setting in SETTINGS if setting.name == name)
