"""The keys by which a gateway opens sealed requests: kept in the data folder, a new one every week, old ones destroyed.

A key opens requests for a week, and for another after the next one was made: a client that asks meanwhile learns of
that one. Then it is overwritten and removed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from llmctl import paths
from llmctl.errors import ConfigError, ResourceError
from llmctl.files import atomic
from llmctl.sealed.key_configuration import KeyConfiguration
from llmctl.shell import command

WEEK_S = 7 * 24 * 3600.0
IDENTIFIERS = 256
FILE_BYTES = 4096
PATTERN = "key-*.json"


class SealKey(Struct, frozen=True):
    """``made_s`` counts from 1970; ``private_key`` is hexadecimal, and never shows."""

    identifier: int
    private_key: str
    made_s: float

    def __repr__(self) -> str:
        return f"SealKey({self.identifier})"

    @property
    def configuration(self) -> KeyConfiguration:
        from llmctl.sealed.encapsulation import configuration_of

        return configuration_of(self.identifier, bytes.fromhex(self.private_key))


class SealKeys:
    """The keys in ``folder``, the newest last. Those that are due are made and destroyed by ``renew``."""

    def __init__(self, folder: Path, now_s: Callable[[], float] = time.time) -> None:
        """Raises ConfigError for a file that holds no key, ResourceError where they can't be kept."""
        self._folder, self._now_s = folder, now_s
        self._keys = sorted(map(_read, folder.glob(PATTERN)), key=lambda key: key.made_s)
        self.renew()

    @property
    def newest(self) -> KeyConfiguration:
        return self._newest

    @property
    def configurations(self) -> tuple[KeyConfiguration, ...]:
        """Of all that open requests now, the newest first."""
        return tuple(key.configuration for key in reversed(self._keys))

    def private_key(self, identifier: int) -> bytes | None:
        """None where no key is called so, or it is over."""
        self.renew()
        key = next((key for key in self._keys if key.identifier == identifier), None)
        return None if key is None else bytes.fromhex(key.private_key)

    def renew(self) -> None:
        """Makes the next key where the newest is a week old, and destroys those whose next one is. Raises
        ResourceError."""
        now_s = self._now_s()
        if not self._keys or now_s - self._keys[-1].made_s >= WEEK_S:
            self._add(now_s)
        while len(self._keys) > 1 and now_s - self._keys[1].made_s >= WEEK_S:
            self._destroy(self._keys.pop(0))
        self._newest = self._keys[-1].configuration

    def _add(self, now_s: float) -> None:
        from llmctl.sealed.encapsulation import new_private_key

        identifier = (self._keys[-1].identifier + 1) % IDENTIFIERS if self._keys else 1
        key = SealKey(identifier, new_private_key().hex(), now_s)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            atomic.write(self._file(key), msgspec.json.encode(key), lasting=True)
        except OSError as error:
            raise ResourceError(f"{self._folder} can't be written: {error.strerror or error}") from error
        self._keys.append(key)

    def _destroy(self, key: SealKey) -> None:
        """Overwrites the file before it is removed: disks that write elsewhere may keep it all the same."""
        file = self._file(key)
        try:
            with file.open("r+b") as stream:
                stream.write(bytes(file.stat().st_size))
                stream.flush()
                os.fsync(stream.fileno())
            file.unlink()
        except OSError as error:
            raise ResourceError(
                f"the old key in {file} can't be destroyed: {error.strerror or error}", hint=command("rm", file)
            ) from error

    def _file(self, key: SealKey) -> Path:
        return self._folder / f"key-{key.identifier}.json"


def folder() -> Path:
    return paths.data_dir() / "sealed"


def newest_line() -> str:
    """The line for clients, its key made where there is none. Raises ConfigError, ResourceError."""
    return SealKeys(folder()).newest.line


@contextmanager
def held() -> Iterator[SealKeys]:
    """This machine's keys, for one gateway at a time: two would not know of each other's requests, and take one twice.
    Raises ConfigError, ResourceError."""
    from llmctl.files.lock import locked

    def busy() -> None:
        raise ResourceError("another gateway of yours takes sealed requests already", hint="llmctl stop serve")

    with locked(folder() / "lock", waiting=busy):
        yield SealKeys(folder())


def _read(file: Path) -> SealKey:
    try:
        with file.open("rb") as stream:
            key = msgspec.json.decode(stream.read(FILE_BYTES), type=SealKey)
        if len(bytes.fromhex(key.private_key)) != 32 or not 0 <= key.identifier < IDENTIFIERS:
            raise ValueError
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror or error}") from error
    except ValueError as error:
        hint = command("rm", file) + "   then clients may need the new key"
        raise ConfigError(f"{file} holds no key that llmctl has made", hint=hint) from error
    return key
