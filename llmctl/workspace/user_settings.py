"""The user's settings: what they are, where each comes from, and changing the user's own file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct

from llmctl import paths, settings
from llmctl.errors import UsageError
from llmctl.near import did_you_mean, near
from llmctl.settings import SETTINGS, Effective, Setting, SettingSource
from llmctl.settings.places import without_password


class Changed(Struct, frozen=True):
    """A change of the user's ``file``. ``decided_by`` is what decides the setting all the same: a variable, or the
    project's file; ``was_set``: it stood in the file before."""

    file: Path
    was_set: bool
    decided_by: str | None


def listed() -> tuple[Effective, ...]:
    """Every setting, in the order of the table. Raises ConfigError."""
    return settings.effective()


def effective(name: str) -> Effective:
    """Raises UsageError for a name that is no setting's, ConfigError."""
    setting = _setting(name)
    return next(each for each in listed() if each.setting is setting)


def set_value(name: str, value: str) -> Changed:
    """Writes it into the user's file. Raises UsageError for a value that it can't have, ConfigError, ResourceError."""
    setting = _setting(name)
    if name == "task":
        _require_task(value)
    try:
        written = setting.written(value)
    except (ValueError, OverflowError) as error:
        given = without_password(setting, value)
        raise UsageError(f"{name} can't be {given!r}, it must be {setting.expects}") from error
    return _changed(name, written)


def _require_task(value: str) -> None:
    """Raises UsageError for one that the catalogue doesn't know: every command would stop at it."""
    from llmctl.workspace import names

    if value not in (tasks := names.tasks()):
        meant = did_you_mean(near(value, tasks))
        raise UsageError(f"task can't be {value!r}, it must be one of {', '.join(tasks)}{meant}")


def unset(name: str) -> Changed:
    """Takes it out of the user's file, which may hold one that is no setting and is in the way of every command.
    Raises UsageError for a name that is neither, ConfigError, ResourceError."""
    if name == "endpoints":
        raise UsageError("endpoints are servers of yours", hint="llmctl endpoint remove NAME")
    if name not in settings.read(paths.config_file()):
        _setting(name)
    return _changed(name, None)


def text() -> str:
    """What stands in the user's file. Raises ConfigError."""
    return settings.text_of(paths.config_file())


def replace_text(before: str, after: str) -> Path:
    """Puts ``after`` in the place of ``before``, if it could stand there. Raises ConfigError, ResourceError."""
    settings.require_sound(after, paths.config_file())
    return settings.replace_text(before, after)


def file() -> Path:
    """The user's file, whether it is there or not."""
    return paths.config_file()


def shown(value: Any) -> str:
    """A value as it is typed; nothing for one that isn't set."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def shown_value(each: Effective) -> str:
    """As it was written where it is set, and without a password."""
    raw = each.value if each.place is None else each.place.raw
    return shown(without_password(each.setting, raw))


def _changed(name: str, value: str | bool | int | float | None) -> Changed:
    was_set = name in settings.read(paths.config_file())
    changed = settings.set_values({name: value}) if value is not None or was_set else paths.config_file()
    deciding = next((each.place for each in _sound() if each.setting.name == name), None)
    other = None if deciding is None or deciding.source is SettingSource.USER else deciding.at
    return Changed(changed, was_set, other)


def _sound() -> tuple[Effective, ...]:
    """Every setting; none where another one in the files is wrong, which the next command will say."""
    from llmctl.errors import ConfigError

    try:
        return settings.effective()
    except ConfigError:
        return ()


def _setting(name: str) -> Setting:
    names = [setting.name for setting in SETTINGS]
    if name not in names:
        raise UsageError(
            f"there is no setting named {name}{did_you_mean(near(name, names))}", hint="llmctl config list"
        )
    return settings.setting_named(name)
