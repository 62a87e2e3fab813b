"""Where an endpoint's key is, as the user says it. What was given may be the key itself, so it is not repeated."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import assert_never

from llmctl.endpoint.keys import is_there, place
from llmctl.errors import UsageError
from llmctl.settings.endpoint_table import reference_of
from llmctl.types.endpoint import KeyCommand, KeyFile, KeyReference, KeyringEntry, KeyVariable

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")  # most keys have small letters, and would pass for a name
OPTIONS = "--key-env, --key-file, --key-keyring and --key-cmd"


def reference(**texts: str | None) -> KeyReference | None:
    """The reference for the one text that is given, by its field in the configuration. Raises UsageError for two."""
    given = {field: text for field, text in texts.items() if text is not None}
    if len(given) > 1:
        raise UsageError(f"a key is in one place: of {OPTIONS} one can be given", hint="llmctl endpoint add --help")
    return next((reference_of(field, text) for field, text in given.items()), None)


def checked(key: KeyReference) -> KeyReference:
    """The reference as it means the same from every folder. Raises UsageError where it leads nowhere (a variable need
    not be set now), AccessError for a keyring that can't be read."""
    match key:
        case KeyVariable(name):
            if not is_there(key) and not VARIABLE.fullmatch(name):
                raise UsageError(
                    "--key-env takes the name of an environment variable (in capitals, or one that is set), not the "
                    "key",
                    hint="export OFFICE_KEY=…; llmctl endpoint add … --key-env OFFICE_KEY",
                )
            return key
        case KeyFile(path):
            if not is_there(key):
                raise UsageError(
                    "--key-file takes a file that holds the key, and there is none of that name",
                    hint="(umask 077; cat > FILE)   and paste the key",
                )
            return KeyFile(str(Path(path).expanduser().resolve()))
        case KeyringEntry():
            if not is_there(key):
                raise UsageError(
                    "--key-keyring takes SERVICE/USER of an entry of the keyring, and there is none of that name",
                    hint="keyring set llmctl office   then: llmctl endpoint add … --key-keyring office",
                )
            return key
        case KeyCommand():
            if not is_there(key):
                raise UsageError(
                    "--key-cmd takes a command that writes the key, and no such program is installed",
                    hint="llmctl endpoint add … --key-cmd 'pass show office'",
                )
            return key
        case _:
            assert_never(key)


def is_set(key: KeyReference | None) -> bool | None:
    """Whether the key is where it should be, as far as a look tells: None for keyrings and commands."""
    if isinstance(key, KeyVariable):
        return bool(os.environ.get(key.name))
    return is_there(key) if isinstance(key, KeyFile) else None


def words(key: KeyReference | None) -> str:
    """Where the key is, for a person: "key in OFFICE_KEY (not set)"."""
    if key is None:
        return "no key"
    return f"key in {place(key)}{' (not set)' if is_set(key) is False else ''}"
