"""One table of settings. Precedence: flag > LLMCTL_* > project file > user file > default.

The project file (``llmctl.toml`` in the working directory) comes with whatever was checked out there, so it may
choose a model or a task but never where a prompt goes: endpoints are the user's own file's, the policy is the stricter
of both, and which of the effective values are the project's is kept (``Project``), so that none of them makes a prompt
leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from llmctl import paths
from llmctl.errors import ConfigError, NotFoundError, OfflineError, PolicyError
from llmctl.files.decode import FieldError
from llmctl.near import did_you_mean, near
from llmctl.settings.endpoint_table import FIELDS, endpoint_of
from llmctl.settings.file import (
    UnreadableFileError,
    add_endpoint,
    locked,
    parsed,
    read,
    remove_endpoint,
    replace_file,
    replace_text,
    set_values,
    text_of,
)
from llmctl.settings.places import Effective, Files, SettingPlace, SettingSource, shown, value_of, variables
from llmctl.settings.strictness import (
    POLICIES,
    STRICTER,
    most_of_project,
    policies,
    private_paths,
    strictest,
    table_of_policies,
    without_stricter,
)
from llmctl.settings.table import HUB_URL, SETTINGS, Setting, setting_named
from llmctl.shell import command
from llmctl.types.endpoint import Endpoint
from llmctl.types.engine_name import EngineName
from llmctl.types.policy import Policy

__all__ = [
    "HUB_URL",
    "PROJECT_FILE",
    "SETTINGS",
    "Effective",
    "Project",
    "Setting",
    "SettingPlace",
    "SettingSource",
    "Settings",
    "add_endpoint",
    "effective",
    "load",
    "locked",
    "read",
    "remove_endpoint",
    "replace_file",
    "replace_text",
    "require_sound",
    "set_values",
    "setting_named",
    "text_of",
]

PROJECT_FILE = "llmctl.toml"
OPTIONAL = ", ".join(field for field in FIELDS if field not in ("url", "model"))


class Project(Struct, frozen=True):
    """The effective settings that come from a project file. ``values`` are what it says, ``own`` what they would be
    without it."""

    file: Path
    values: Mapping[str, Any]
    own: Mapping[str, Any]

    def __str__(self) -> str:
        """``llmctl.toml sets context = 512, task = 'code'``"""
        return f"{self.file} sets " + ", ".join(f"{name} = {shown(value)}" for name, value in self.values.items())


class Settings(Struct, frozen=True):
    """Every setting with its effective value, and the endpoints the user has added.

    ``policies`` are those of tasks. ``project`` is what a project file has decided, None where it decides nothing; that
    it has made the policy stricter, or more paths private, is no decision by which anything leaves. ``warnings`` say
    which file was passed over, and why.
    """

    model: str | None
    task: str
    context: int | None
    threads: int | None
    min_tok_s: float | None
    policy: Policy
    hub_url: str
    offline: bool
    keep_alive: float
    prompt_cache: int
    history: bool
    speculate: bool
    chat_history: bool
    markdown: bool
    endpoints: tuple[Endpoint, ...]
    private_paths: tuple[Path, ...] = ()
    policies: Mapping[str, Policy] = field(default_factory=dict)
    project: Project | None = None
    warnings: tuple[str, ...] = ()
    engine: EngineName | None = None
    llama_server: Path | None = None
    serve_port: int = 8484
    serve_users: int | None = None
    serve_idle: float = 1800.0
    serve_queue: int = 32
    max_first_token: float | None = None
    max_download: int | None = None
    server_meanwhile: bool = False

    def without_project(self) -> Settings:
        """The same settings as they would be without the project file."""
        return self if self.project is None else replace(self, project=None, **self.project.own)

    def for_task(self, task: str | None) -> Settings:
        """The settings for a prompt of that ``task``, None where the settings say which: its own policy is the one that
        counts. A task that a project file has chosen makes the policy stricter only."""
        own = self.policies.get(task or self.task)
        if own is None:
            return self
        is_projects = task is None and self.project is not None and "task" in self.project.values
        return replace(self, policy=strictest(own, self.policy) if is_projects else own)

    def for_remote(self) -> Settings:
        """The settings for a prompt that is to go to a server, or to be answered by none. Raises PolicyError where the
        policy lets nothing leave."""
        if self.policy is Policy.LOCAL_ONLY:
            raise PolicyError(
                f"the policy is {self.policy}, so no prompt may go to a server",
                hint='leave out --remote   or set policy = "prefer-local" in the configuration',
            )
        return replace(self, policy=Policy.REMOTE_ONLY, policies={})

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
        names = ", ".join(endpoint.name for endpoint in self.endpoints)
        hint = "llmctl endpoint list" if names else "llmctl endpoint add NAME URL --model MODEL"
        raise NotFoundError(f"there is no endpoint named {name} ({names or 'none is configured'})", hint=hint)


def load(project: Path | None = None) -> Settings:
    """Reads files and environment. Raises ConfigError naming file or variable, setting, and what was expected.

    A project file that can't be read at all (no permission, a link to nothing) is passed over with a warning: the
    working directory is not always the user's own.
    """
    files, warnings = _read_files(project)
    require_known(files.user, files.user_file)
    most, deciding = most_of_project(files), without_stricter(files)
    values = {setting.name: value_of(setting, deciding.places(setting)) for setting in SETTINGS}
    decided = {name: values[name] for name in deciding.local if not variables(setting_named(name))}
    own = {name: value_of(setting_named(name), files.without_project.places(setting_named(name))) for name in decided}
    endpoints = _endpoints(files.user.get("endpoints", {}), files.user_file)
    if values["policy"] is None:
        values["policy"] = Policy.PREFER_LOCAL if endpoints else Policy.LOCAL_ONLY
    values["policy"] = strictest(values["policy"], most)
    values["private_paths"] = private_paths(files, values["private_paths"])
    return Settings(
        endpoints=endpoints,
        policies={task: strictest(policy, most) for task, policy in policies(files).items()},
        project=Project(files.local_file, decided, own) if decided else None,
        warnings=warnings,
        **values,
    )


def effective(project: Path | None = None) -> tuple[Effective, ...]:
    """Every setting, with its value and where that comes from. Raises ConfigError, as ``load``."""
    loaded = load(project)
    files, _ = _read_files(project)
    return tuple(_effective(setting, getattr(loaded, setting.name), files.places(setting)) for setting in SETTINGS)


def _effective(setting: Setting, value: Any, places: list[SettingPlace]) -> Effective:
    """The place that decides is the first, but where a project would only make it stricter."""
    deciding = [place for place in places if value_of(setting, [place]) == value]
    return Effective(setting, value, next(iter([*deciding, *places]), None))


def require_sound(text: str, file: Path) -> None:
    """Raises ConfigError unless ``text`` could stand in the user's ``file``."""
    user = parsed(text.encode(), file)
    require_known(user, file)
    for setting in SETTINGS:
        if setting.name in user:
            value_of(setting, [SettingPlace(SettingSource.USER, str(file), user[setting.name])])
    table_of_policies(user, file)
    _endpoints(user.get("endpoints", {}), file)


def require_known(user: Mapping[str, Any], file: Path) -> None:
    """Raises ConfigError for a name in the user's file that is no setting's."""
    names = [setting.name for setting in SETTINGS]
    if unknown := sorted(set(user) - {*names, "endpoints", POLICIES}):
        raise ConfigError(
            f"{file}: there is no setting named {unknown[0]}{did_you_mean(near(unknown[0], names))}",
            hint=f"settings are: {', '.join(names)}",
        )


def _read_files(project: Path | None) -> tuple[Files, tuple[str, ...]]:
    """The files that hold settings, and warnings about one that was passed over. Raises ConfigError."""
    user_file, project_file = paths.config_file(), (project or Path()) / PROJECT_FILE
    local, warnings = _read_project(project_file)
    allowed = {*STRICTER, *(setting.name for setting in SETTINGS if setting.project)}
    if forbidden := sorted(set(local) - allowed):
        raise ConfigError(
            f"{project_file}: {forbidden[0]} can't be set by a project file (only {', '.join(sorted(allowed))})",
            hint=f"move it to {command(user_file)}",
        )
    return Files(read(user_file), user_file, local, project_file), warnings


def _read_project(file: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The project's file, empty where there is none; a warning instead where it can't be read. Raises ConfigError for
    what is no configuration."""
    try:
        return read(file), _dangling(file)
    except UnreadableFileError as error:
        return {}, (f"{error.message}; it is passed over",)


def _dangling(file: Path) -> tuple[str, ...]:
    """A warning if ``file`` is a symlink to a file that doesn't exist."""
    with suppress(OSError):
        if file.is_symlink() and not file.exists():
            return (f"{file} is a link to a file that is not there; it is passed over",)
    return ()


def _endpoints(tables: Any, file: Path) -> tuple[Endpoint, ...]:
    if not isinstance(tables, dict):
        raise ConfigError(f"{file}: endpoints must be tables like [endpoints.office]")
    try:
        made = [endpoint_of(name, table) for name, table in tables.items()]
    except FieldError as error:
        raise ConfigError(f"{file}: {error}", hint=f"an endpoint has url and model, and may have {OPTIONAL}") from error
    return tuple(sorted(made, key=lambda endpoint: -endpoint.priority))
