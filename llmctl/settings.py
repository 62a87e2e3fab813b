"""One table of settings. Precedence: flag > LLMCTL_* > project file > user file > default.

The project file (``llmctl.toml`` in the working directory) comes with whatever was checked out there, so it may
choose a model or a task but never where a prompt goes: endpoints and the policy are the user's own file's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmctl import paths
from llmctl.errors import ConfigError, NotFoundError
from llmctl.types.endpoint import Endpoint, Policy

PROJECT_FILE = "llmctl.toml"
HUB_URL = "https://huggingface.co"


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


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
    Setting("context", _whole, "a number of tokens", "context to plan and run with", project=True),
    Setting("threads", _whole, "a number of threads", "threads to decode with"),
    Setting("min_tok_s", _number, "tokens per second", "slowest decoding to recommend", project=True),
    Setting(
        "policy",
        Policy,
        "one of " + ", ".join(Policy),
        "where prompts may go; prefer-local once an endpoint is added",
    ),
    Setting("hub_url", _text, "an address", "the model hub", default=HUB_URL, also=("HF_ENDPOINT",)),
    Setting("offline", _flag, "true or false", "never use the network", default=False, also=("HF_HUB_OFFLINE",)),
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
    endpoints: tuple[Endpoint, ...]

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
    project_file = (project or Path.cwd()) / PROJECT_FILE
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
    except ValueError as error:
        raise ConfigError(f"{where} is {raw!r}, it must be {setting.expects}") from error


def _read(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
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

    def change(document: Any) -> None:
        import tomlkit

        table = tomlkit.table()
        for key in ("url", "model", "key_env", "ca_file"):
            if value := getattr(endpoint, key):
                table[key] = value
        document.setdefault("endpoints", tomlkit.table(is_super_table=True))[endpoint.name] = table

    return _edit(change)


def remove_endpoint(name: str) -> Path:
    """Takes an endpoint out of the user's file. The caller has checked that it is there."""
    return _edit(lambda document: document["endpoints"].pop(name))


def _edit(change: Callable[[Any], Any]) -> Path:
    """Rewrites the user's file whole, readable by its owner only, so that a crash leaves the old or the new one."""
    import tomlkit

    file = paths.config_file()
    _read(file)  # an unreadable or broken file is told, never overwritten
    document = tomlkit.parse(file.read_text("utf-8")) if file.exists() else tomlkit.document()
    change(document)
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = file.with_suffix(".toml.new")
        partial.unlink(missing_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write(tomlkit.dumps(document))
            out.flush()
            os.fsync(out.fileno())
        partial.replace(file)
    except OSError as error:
        raise ConfigError(f"{file} can't be written: {error.strerror}") from error
    return file
