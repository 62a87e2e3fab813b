"""Where a setting's value comes from: the environment, the project's file, the user's own, or the table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from llmctl.address import without_secrets
from llmctl.errors import ConfigError
from llmctl.settings.table import Setting, address


class SettingSource(StrEnum):
    VARIABLE = "variable"
    PROJECT = "project"
    USER = "user"
    DEFAULT = "default"


class SettingPlace(Struct, frozen=True):
    """A value as it stands there. ``at``: the variable's name, or the file."""

    source: SettingSource
    at: str
    raw: Any

    def named(self, setting: Setting) -> str:
        return self.at if self.source is SettingSource.VARIABLE else f"{self.at}: {setting.name}"


class Effective(Struct, frozen=True):
    """A setting's value, and the place that decides it, None for the default."""

    setting: Setting
    value: Any
    place: SettingPlace | None

    @property
    def source(self) -> SettingSource:
        return SettingSource.DEFAULT if self.place is None else self.place.source


class Files(Struct, frozen=True):
    """What the user's file and that of the project say."""

    user: Mapping[str, Any]
    user_file: Path
    local: Mapping[str, Any]
    local_file: Path

    @property
    def without_project(self) -> Files:
        return replace(self, local={})

    def places(self, setting: Setting) -> list[SettingPlace]:
        """Where it is set, the one that counts first."""
        tables = (
            (SettingSource.PROJECT, self.local, self.local_file),
            (SettingSource.USER, self.user, self.user_file),
        )
        return [
            *(SettingPlace(SettingSource.VARIABLE, name, value) for name, value in variables(setting)),
            *(
                SettingPlace(source, str(file), table[setting.name])
                for source, table, file in tables
                if setting.name in table
            ),
        ]


def variables(setting: Setting) -> list[tuple[str, str]]:
    """The environment variables that set it, the one that counts first, with their values."""
    names = (setting.variable, *setting.also)
    return [(name, os.environ[name]) for name in names if setting.is_set_by(name, os.environ.get(name, ""))]


def value_of(setting: Setting, places: Sequence[SettingPlace]) -> Any:
    """The value at the first of ``places``, or the default. Raises ConfigError that names the place."""
    if not places:
        return setting.default
    place = places[0]
    try:
        return setting.parse(place.raw)
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"{place.named(setting)} is {shown(without_password(setting, place.raw))}, it must be {setting.expects}"
        ) from error


def without_password(setting: Setting, raw: Any) -> Any:
    """``raw``, but an address without what may be secret in it."""
    return without_secrets(raw) if setting.parse is address and isinstance(raw, str) else raw


def shown(raw: Any) -> str:
    """``repr``, but the length of a long number, which Python refuses to write."""
    if isinstance(raw, int) and abs(raw) >= 1 << 64:
        return f"a number of {raw.bit_length():,} bits"
    return repr(raw)
