"""One table of settings. Precedence: flag > LLMCTL_* > project file > user file > default.

The project file (``llmctl.toml`` in the working directory) comes with whatever was checked out there, so it may
choose a model or a task but never where a prompt goes: endpoints and the policy are the user's own file's.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmctl import paths, record
from llmctl.address import without_secrets
from llmctl.errors import ConfigError, NotFoundError, OfflineError, ResourceError
from llmctl.types.endpoint import Endpoint, Policy

PROJECT_FILE = "llmctl.toml"
HUB_URL = "https://huggingface.co"
FILE_LIMIT_BYTES = 1 << 20
MOST = (1 << 31) - 1  # llama.cpp counts tokens and threads in 32 bits


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or not 1 <= int(value) <= MOST:
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not 0 <= float(value) < math.inf:
        raise ValueError
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def _address(value: Any) -> str:
    parts = urlsplit(_text(value))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # ValueError: not a port
        raise ValueError
    return str(value)


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"1", "true", "yes", "on"}:
        return True
    if isinstance(value, str) and value.lower() in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError


@dataclass(frozen=True)
class Setting:
    """``expects`` completes "must be …". ``project`` says whether a project file may set it."""

    name: str
    parse: Callable[[Any], Any]
    expects: str
    help: str
    default: Any = None
    project: bool = False
    also: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        return f"LLMCTL_{self.name.upper()}"


SETTINGS = (
    Setting("model", _text, "a model's name", "the model that run uses without -m", project=True),
    Setting("task", _text, "a task's name", "what plan and run choose for", default="chat", project=True),
    Setting(
        "context", _whole, f"a whole number of tokens, 1 to {MOST:,}", "context to plan and run with", project=True
    ),
    Setting("threads", _whole, f"a whole number of threads, 1 to {MOST:,}", "threads to decode with"),
    Setting("min_tok_s", _number, "a number of tokens per second", "slowest decoding to recommend", project=True),
    Setting(
        "policy",
        Policy,
        "one of " + ", ".join(Policy),
        "where prompts may go; prefer-local once an endpoint is added",
    ),
    Setting("hub_url", _address, "an http or https address", "the model hub", default=HUB_URL, also=("HF_ENDPOINT",)),
    Setting("offline", _flag, "true or false", "never use the network", default=False, also=("HF_HUB_OFFLINE",)),
    Setting("history", _flag, "true or false", "keep memory and speed of runs, never text", default=True),
)


@dataclass(frozen=True)
class Settings:
    """Every setting with its effective value, and the endpoints the user has added."""

    model: str | None
    task: str
    context: int | None
    threads: int | None
    min_tok_s: float | None
    policy: Policy
    hub_url: str
    offline: bool
    history: bool
    endpoints: tuple[Endpoint, ...]

    def require_network(self, what: str) -> None:
        """Raises OfflineError, for ``what``, which isn't on this machine, if the network may not be used."""
        if self.offline:
            raise OfflineError(
                f"{what} is not on this machine, and llmctl is set to stay offline",
                hint="leave out --offline, unset LLMCTL_OFFLINE and HF_HUB_OFFLINE, or set offline = false",
            )

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint of that name. Raises NotFoundError that lists the ones there are."""
        for endpoint in self.endpoints:
            if endpoint.name == name:
                return endpoint
        known = ", ".join(endpoint.name for endpoint in self.endpoints) or "none is configured"
        raise NotFoundError(
            f"there is no endpoint named {name} ({known})", hint="llmctl endpoint add NAME URL --model MODEL"
        )


def load(project: Path | None = None) -> Settings:
    """Reads files and environment. Raises ConfigError naming file or variable, setting, and what was expected."""
    user_file = paths.config_file()
    project_file = (project or Path()) / PROJECT_FILE
    user = _read(user_file)
    local = _read(project_file)
    allowed = {setting.name for setting in SETTINGS if setting.project}
    if forbidden := sorted(set(local) - allowed):
        raise ConfigError(
            f"{project_file}: {forbidden[0]} can't be set by a project file (only {', '.join(sorted(allowed))})",
            hint=f"move it to {user_file}",
        )
    unknown = sorted(set(user) - {setting.name for setting in SETTINGS} - {"endpoints"})
    if unknown:
        raise ConfigError(
            f"{user_file}: there is no setting named {unknown[0]}",
            hint="settings are: " + ", ".join(setting.name for setting in SETTINGS),
        )
    values = {setting.name: _value(setting, local, project_file, user, user_file) for setting in SETTINGS}
    endpoints = _endpoints(user.get("endpoints", {}), user_file)
    if values["policy"] is None:
        values["policy"] = Policy.PREFER_LOCAL if endpoints else Policy.LOCAL_ONLY
    return Settings(endpoints=endpoints, **values)


def _value(
    setting: Setting, local: Mapping[str, Any], local_file: Path, user: Mapping[str, Any], user_file: Path
) -> Any:
    places: list[tuple[str, Any]] = [
        (variable, os.environ[variable]) for variable in (setting.variable, *setting.also) if os.environ.get(variable)
    ]
    places += [
        (f"{file}: {setting.name}", table[setting.name])
        for table, file in ((local, local_file), (user, user_file))
        if setting.name in table
    ]
    if not places:
        return setting.default
    where, raw = places[0]
    try:
        return setting.parse(raw)
    except (ValueError, OverflowError) as error:
        shown = without_secrets(raw) if setting.parse is _address and isinstance(raw, str) else raw
        raise ConfigError(f"{where} is {_shown(shown)}, it must be {setting.expects}") from error


def _shown(raw: Any) -> str:
    """Python refuses to write numbers of more than some thousand digits, and nobody wants to read them."""
    if isinstance(raw, int) and abs(raw) >= 1 << 64:
        return f"a number of {raw.bit_length():,} bits"
    return repr(raw)


def _read(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a checkout can hold a link to a device that never ends
            raise ConfigError(f"{file} is not a file")
        with file.open("rb") as stream:
            text = stream.read(FILE_LIMIT_BYTES + 1)
        if len(text) > FILE_LIMIT_BYTES:
            raise ConfigError(f"{file} is larger than {FILE_LIMIT_BYTES:,} bytes, which no configuration is")
        return tomllib.loads(text.decode("utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, a number too long, nesting too deep
        raise ConfigError(f"{file} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from error


def _endpoints(tables: Any, file: Path) -> tuple[Endpoint, ...]:
    if not isinstance(tables, dict):
        raise ConfigError(f"{file}: endpoints must be tables like [endpoints.office]")
    made = []
    for name, table in tables.items():
        try:
            made.append(Endpoint(name=name, **{key: _text(value) for key, value in table.items()}))
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"{file}: [endpoints.{name}] must hold url and model, and may hold key_env and ca_file, all text"
            ) from error
    return tuple(made)


def add_endpoint(endpoint: Endpoint) -> Path:
    """Writes ``endpoint`` into the user's file, keeping what stands there, comments too. Returns the file."""
    fields = ("url", "model", "key_env", "ca_file")
    return _edit(endpoint.name, {field: value for field in fields if (value := getattr(endpoint, field))})


def remove_endpoint(name: str) -> Path:
    """Takes an endpoint out of the user's file. The caller has checked that it is there."""
    return _edit(name, None)


def _edit(name: str, table: Mapping[str, str] | None) -> Path:
    """Rewrites the user's file with ``table`` as the endpoint of that name, or without it.

    Where the file is a link (into somebody's dotfiles), its target is rewritten. Raises ConfigError, or ResourceError
    when the disk is full.
    """
    file = Path(os.path.realpath(paths.config_file()))
    wanted = _read(file)
    endpoints = {one: dict(values) for one, values in wanted.get("endpoints", {}).items() if one != name}
    wanted["endpoints"] = endpoints if table is None else {**endpoints, name: dict(table)}
    replace_file(file, _edited(file, name, table, wanted))
    return file


def _edited(file: Path, name: str, table: Mapping[str, str] | None, wanted: Mapping[str, Any]) -> str:
    """The file's new text, comments kept. It is read again, and must say what is ``wanted`` and nothing else."""
    import tomllib

    import tomlkit

    try:
        document: Any = tomlkit.parse(file.read_text("utf-8") if file.exists() else "")
        if table is None:
            document["endpoints"].pop(name)
        else:
            new = tomlkit.table()
            new.update(table)
            document.setdefault("endpoints", tomlkit.table(is_super_table=True))[name] = new
        text = tomlkit.dumps(document)
        if {"endpoints": {}, **tomllib.loads(text)} == wanted:
            return text
        reason: Exception | None = None
    except (ValueError, RecursionError, tomlkit.exceptions.TOMLKitError) as error:
        reason = error
    raise ConfigError(  # inline tables and dotted keys, that tomlkit cannot add to
        f"{file} can't be edited, because of how its endpoints are written: they must be tables like [endpoints.{name}]"
    ) from reason


def replace_file(file: Path, text: str) -> None:
    """Writes a file whole, readable by its owner only, so that a crash leaves the old or the new one."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        record.write(file, text.encode(), lasting=True)
    except OSError as error:
        kind = ResourceError if error.errno in (errno.ENOSPC, errno.EDQUOT) else ConfigError
        raise kind(f"{file} can't be written: {error.strerror}") from error
