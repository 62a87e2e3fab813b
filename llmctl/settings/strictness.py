"""What a project file may only make stricter (how far prompts may go, which files are private), and the policies of
tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from llmctl import paths
from llmctl.errors import ConfigError
from llmctl.settings.places import Files, SettingPlace, SettingSource, value_of, variables
from llmctl.settings.table import setting_named
from llmctl.shell import command
from llmctl.types.policy import Policy

STRICTER = ("policy", "private_paths")
POLICIES = "policies"


def strictest(policy: Policy, other: Policy) -> Policy:
    """Of two policies the one that lets less leave."""
    return min(policy, other, key=list(Policy).index)


def without_stricter(files: Files) -> Files:
    """The files without what a project may only make stricter."""
    return replace(files, local={name: raw for name, raw in files.local.items() if name not in STRICTER})


def most_of_project(files: Files) -> Policy:
    """The policy beyond which the project lets nothing leave. Raises ConfigError, also for one that asks a server
    first."""
    if "policy" not in files.local:
        return Policy.REMOTE_ONLY
    made: Policy = _of_project(files, "policy")
    if strictest(made, Policy.PREFER_LOCAL) is not made:
        raise ConfigError(
            f"{files.local_file}: policy can't be set by a project file to {made}, only to {Policy.PREFER_LOCAL} or "
            "less",
            hint=f"move it to {command(files.user_file)}",
        )
    return made


def private_paths(files: Files, own: tuple[str, ...]) -> tuple[Path, ...]:
    """The user's ``own``, and those of the project, from its folder on. Raises ConfigError."""
    places = tuple(map(paths.expanded, own))
    if "private_paths" not in files.local:
        return places
    folder = files.local_file.parent.absolute()
    return (*places, *(folder / paths.expanded(place) for place in _of_project(files, "private_paths")))


def policies(files: Files) -> Mapping[str, Policy]:
    """The policies of tasks by the user's file; none where a variable says which counts. Raises ConfigError."""
    made = table_of_policies(files.user, files.user_file)
    return {} if variables(setting_named("policy")) else made


def table_of_policies(user: Mapping[str, Any], file: Path) -> Mapping[str, Policy]:
    """Raises ConfigError."""
    table = user.get(POLICIES, {})
    if not isinstance(table, dict):
        raise ConfigError(f'{file}: policies must be a table like [policies], with lines like code = "local-only"')
    for task, raw in table.items():
        if not isinstance(raw, str) or raw not in list(Policy):
            raise ConfigError(f"{file}: policies.{task} is {raw!r}, it must be {setting_named('policy').expects}")
    return {task: Policy(raw) for task, raw in table.items()}


def _of_project(files: Files, name: str) -> Any:
    place = SettingPlace(SettingSource.PROJECT, str(files.local_file), files.local[name])
    return value_of(setting_named(name), [place])
