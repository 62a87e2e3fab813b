"""Which key a request is sealed for: the one that the user has pinned, or the one that took its place.

A key learns of the next one from answers that were sealed with it, so what was pinned vouches for all that follow. They
are kept in the data folder, by the fingerprint of what was pinned; without that file the pinned key counts again.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from llmctl import paths
from llmctl.errors import ConfigError
from llmctl.files import atomic
from llmctl.sealed.key_configuration import KeyConfiguration
from llmctl.sealed.message_error import SealedMessageError
from llmctl.types.endpoint import Seal

FILE_BYTES = 1 << 20


def current(seal: Seal) -> KeyConfiguration:
    """The key to seal for. Raises ConfigError for a pin that is none."""
    pinned = pin_of(seal)
    line = _followers().get(pinned.fingerprint)
    with suppress(SealedMessageError):  # of a file that somebody has changed
        return pinned if line is None else KeyConfiguration.of_line(line)
    return pinned


def pin_of(seal: Seal) -> KeyConfiguration:
    """Raises ConfigError."""
    try:
        return KeyConfiguration.of_line(seal.key)
    except SealedMessageError as error:
        raise ConfigError(f"the endpoint's seal_key is none: {error}", hint="llmctl endpoint list") from error


def learn(seal: Seal, line: str) -> None:
    """The key of ``line`` takes the place of the one that has vouched for it. What is no key is passed over."""
    try:
        KeyConfiguration.of_line(line)
    except SealedMessageError:
        return
    atomic.write_json(_file(), {**_followers(), pin_of(seal).fingerprint: line})


def _file() -> Path:
    return paths.data_dir() / "seal_keys.json"


def _followers() -> dict[str, str]:
    return atomic.read_json(_file(), FILE_BYTES, dict[str, str]) or {}
