"""What somebody needs who is to mend a fault, in one text that its sender can read first."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from llmctl import __version__, paths
from llmctl.errors import LlmctlError, ResourceError, UsageError
from llmctl.files import atomic
from llmctl.shell import command
from llmctl.struct import asdict
from llmctl.types.listener import Listener

HEAD = """\
# llmctl bug report

Read this before you send it. Taken out are keys and tokens, names of the user, of this machine and of servers, and the
home folder. No prompt and no answer is in it: no log of llmctl holds any.

## What happened

(the command, what you expected, what came instead)
"""
LOG_LINES = 200
PACKAGE = re.compile(r"[A-Za-z0-9][\w.-]*")
FOR_DEVELOPERS = ("extra == 'dev'", 'extra == "dev"')
VARIABLES = ("LLMCTL_", "LLAMA_", "GGML_", "HF_", "HUGGING", "XDG_", "CUDA_", "HIP_", "ROCR_", "VK_", "OMP_", "PIP_")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
PRIVATE = ("private_paths",)  # settings whose values tell of a person's files


def write(listener: Listener, file: Path, *, replacing: bool) -> None:
    """Writes the report to ``file``, readable by its owner only. Raises UsageError where there is one and ``replacing``
    is not wanted, ResourceError where it can't be written."""
    if file.exists() and not replacing:
        raise UsageError(f"{file} is there already", hint=command("llmctl", "bugreport", "--force", names=[file]))
    made = text(listener)
    try:
        atomic.write(file, made.encode())
    except OSError as error:
        hint = "llmctl bugreport -   writes it to stdout"
        raise ResourceError(f"{file} can't be written: {error.strerror}", hint=hint) from error


def text(listener: Listener) -> str:
    """The report. A part that can't be made says why; nothing is raised, for it is asked for where something fails."""
    from llmctl.workspace import scrub

    parts: dict[str, Callable[[], str]] = {
        "Versions": _versions,
        "Settings": _settings,
        "Environment": _environment,
        "llmctl doctor": lambda: _doctor(listener),
        "The last log of an engine that has failed": _log,
    }
    made = "".join(f"\n## {title}\n\n```\n{_made(part)}\n```\n" for title, part in parts.items())
    return HEAD + scrub.of_this_machine(_endpoints())(made)


def _made(part: Callable[[], str]) -> str:
    try:
        return part().replace("```", "'''")
    except (LlmctlError, OSError) as error:
        return f"can't be told: {error}"


def _endpoints() -> Any:
    from llmctl import settings

    try:
        return settings.load().endpoints
    except LlmctlError:
        return ()


def _versions() -> str:
    from llmctl.workspace.engine import summary

    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    lines = [f"llmctl {__version__}", f"Python {platform.python_version()} ({sys.executable})", system, *summary()]
    lines += [time.strftime("made %Y-%m-%d %H:%M UTC", time.gmtime()), "", *_packages()]
    return "\n".join(lines)


def _packages() -> Iterator[str]:
    """llmctl's dependencies, those that are there."""
    required: list[str] = []
    with suppress(metadata.PackageNotFoundError):  # run from its sources
        required = [line for line in metadata.requires("llmctl") or [] if not line.endswith(FOR_DEVELOPERS)]
    names = {match[0] for line in required if (match := PACKAGE.match(line))}
    for name in sorted(names, key=str.casefold):
        with suppress(metadata.PackageNotFoundError):
            yield f"{name} {metadata.version(name)}"


def _settings() -> str:
    from llmctl.workspace import endpoint_key, user_settings

    lines = []
    for each in user_settings.listed():
        value = user_settings.shown_value(each)
        if each.setting.name in PRIVATE and each.value:
            value = f"({len(each.value)} of them)"
        where = "default" if each.place is None else each.place.at
        lines.append(f"{each.setting.name} = {value or '-'}   ({where})")
    for endpoint in _endpoints():
        key = "no key" if endpoint.key is None else type(endpoint.key).__name__
        is_set = endpoint_key.is_set(endpoint.key)
        lines.append(f"endpoint {endpoint.name}: {endpoint.url}, {endpoint.model}, {key}, set: {is_set}")
    return "\n".join([*lines, "", str(paths.config_file())])


def _environment() -> str:
    """Names of variables alone: their values may be anything."""
    names = [name for name in os.environ if name.startswith(VARIABLES) or name.casefold() in PROXIES]
    return "\n".join(sorted(names)) or "no variable that llmctl or an engine reads is set"


def _doctor(listener: Listener) -> str:
    from llmctl.workspace.examine import examine

    report = examine(listener)
    document = {
        "machine": asdict(report.machine),
        "engines": list(map(asdict, report.engines)),
        "checks": list(map(asdict, report.findings)),
    }
    return json.dumps(document, indent=1, ensure_ascii=False, default=str)


def _log() -> str:
    from llmctl.workspace.logs import LogKind, logs

    ended = [log for log in logs() if log.kind is LogKind.ENGINE and not log.is_running]
    if not ended:
        return "none: engines that end in order leave no log"
    return "\n".join([str(ended[0].path), *ended[0].lines(LOG_LINES)])
