"""The files that hold settings: read with a bound, changed by one process at a time, replaced whole."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmctl import paths
from llmctl.errors import ConfigError, NotFoundError, ResourceError, UsageError
from llmctl.files import atomic, lock
from llmctl.settings.endpoint_table import table_of
from llmctl.types.endpoint import Endpoint

FILE_LIMIT_BYTES = 1 << 20
CACHE_ELSEWHERE = "export XDG_CACHE_HOME=/path   where you may write"
LOCK_WAIT_S = 10.0  # a change of the file takes milliseconds; who holds the lock for longer is stuck


Written = str | bool | int | float  # a setting's value, as TOML has it


class UnreadableFileError(ConfigError):
    """The system doesn't let us read the file."""


def read(file: Path) -> dict[str, Any]:
    """The TOML in ``file``, empty where there is none. Raises ConfigError, UnreadableFileError."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a checkout can hold a link to a device that never ends
            raise ConfigError(f"{file} is not a file")
        with file.open("rb") as stream:
            text = stream.read(FILE_LIMIT_BYTES + 1)
        if len(text) > FILE_LIMIT_BYTES:
            raise ConfigError(f"{file} is larger than {FILE_LIMIT_BYTES:,} bytes, which no configuration is")
        return parsed(text, file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UnreadableFileError(f"{file} can't be read: {error.strerror}") from error


def parsed(text: bytes, file: Path) -> dict[str, Any]:
    """The TOML in ``text``, which is that of ``file``. Raises ConfigError."""
    import tomli

    try:
        return tomli.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, a number too long, nesting too deep
        raise ConfigError(f"{file} is not valid TOML: {error}") from error


def add_endpoint(endpoint: Endpoint, *, replacing: bool = True) -> Path:
    """Writes ``endpoint`` into the user's file, keeping what stands there, comments too. Returns the file.

    Raises UsageError if there is one of that name and ``replacing`` is not wanted, ConfigError, ResourceError.
    """
    table = {field: value for field, value in table_of(endpoint).items() if value}
    for field, value in table.items():
        if isinstance(value, str) and not _is_text(value):
            raise UsageError(
                f"the endpoint's {field} is {value!r}, which is not UTF-8: the configuration can't hold it"
            )

    def added(endpoints: Mapping[str, Any]) -> None:
        if endpoint.name in endpoints and not replacing:
            raise UsageError(f"there is an endpoint named {endpoint.name} already", hint="--force replaces it")

    return _edit(endpoint.name, table, added)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes of an argument or a file's name
        return False
    return True


def remove_endpoint(name: str) -> Path:
    """Takes an endpoint out of the user's file. Raises NotFoundError, ConfigError, ResourceError."""

    def removed(endpoints: Mapping[str, Any]) -> None:
        if name not in endpoints:
            raise NotFoundError(f"there is no endpoint named {name}", hint="llmctl endpoint list")

    return _edit(name, None, removed)


def set_values(values: Mapping[str, Written | None]) -> Path:
    """Writes settings into the user's file, keeping what stands there, comments too; None takes one out. Returns the
    file. Raises ConfigError, ResourceError."""
    import tomlkit

    file = Path(os.path.realpath(paths.config_file()))
    with locked(file):
        wanted = {**read(file), **values}
        document: Any = tomlkit.parse(file.read_text("utf-8") if file.exists() else "")
        for name, value in values.items():
            if value is None:
                document.pop(name, None)
            else:
                document[name] = value
        text = tomlkit.dumps(document)
        _require_same(file, text, {name: value for name, value in wanted.items() if value is not None})
        replace_file(file, text)
    return file


def replace_text(before: str, after: str) -> Path:
    """Puts ``after`` into the user's file, which somebody has edited from ``before``. Returns the file. Raises
    ConfigError where it has been changed meanwhile, ResourceError."""
    file = Path(os.path.realpath(paths.config_file()))
    with locked(file):
        if text_of(file) != before:
            raise ConfigError(f"{file} was changed by another program meanwhile", hint="llmctl config edit")
        replace_file(file, after)
    return file


def text_of(file: Path) -> str:
    """What stands in ``file``, nothing where there is none. Raises UnreadableFileError."""
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise UnreadableFileError(f"{file} can't be read: {error}") from error


def _require_same(file: Path, text: str, wanted: Mapping[str, Any]) -> None:
    """Raises ConfigError unless ``text`` says what is ``wanted``, and nothing else."""
    import tomli

    if tomli.loads(text) != wanted:
        raise ConfigError(f"{file} can't be edited, because of how it is written: set {', '.join(wanted)} by hand")


def _edit(name: str, table: Mapping[str, Any] | None, check: Callable[[Mapping[str, Any]], None]) -> Path:
    """Rewrites the user's file with ``table`` as the endpoint of that name, or without it, as the only process that
    does so now. ``check`` gets the endpoints that there are and may refuse.

    Where the file is a link (into the user's dotfiles), its target is rewritten. Raises ConfigError, or ResourceError
    when the disk is full or another process keeps the lock.
    """
    file = Path(os.path.realpath(paths.config_file()))
    with locked(file):
        settings = read(file)
        check(settings.get("endpoints", {}))
        endpoints = {other: dict(values) for other, values in settings.get("endpoints", {}).items() if other != name}
        settings["endpoints"] = endpoints if table is None else {**endpoints, name: dict(table)}
        replace_file(file, _edited(file, name, table, settings))
    return file


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """One process at a time changes the settings: what it has read is still there when it writes.

    The lock is in the cache folder, because the file may lie in the user's dotfiles. Waits LOCK_WAIT_S; raises
    ResourceError.
    """
    end_s = time.monotonic() + LOCK_WAIT_S

    def waiting() -> None:
        if time.monotonic() >= end_s:
            raise ResourceError(
                f"{file} is being changed by another process, for more than {LOCK_WAIT_S:.0f} s now",
                hint="run the same command again when that is done",
            )

    with lock.locked(paths.cache_dir() / "config.lock", waiting=waiting, hint=CACHE_ELSEWHERE):
        yield


def _edited(file: Path, name: str, table: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> str:
    """The file's new text, comments kept. It is read again, and must say what is ``settings`` and nothing else."""
    import tomli
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
        if {"endpoints": {}, **tomli.loads(text)} == settings:
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
        atomic.write(file, text.encode(), lasting=True)
    except OSError as error:
        kind = ResourceError if error.errno in (errno.ENOSPC, errno.EDQUOT) else ConfigError
        raise kind(f"{file} can't be written: {error.strerror}") from error
