"""Commands as text that a person pastes into a shell."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from os import PathLike


def command(*words: str | PathLike[str], names: Sequence[str | PathLike[str]] = ()) -> str:
    """``words`` and then ``names`` as one line, quoted for the shell: nothing in them is run or taken apart, and
    nothing of it drives the terminal.

    ``names`` come from elsewhere (a hub, a file, the user): before one that begins with a dash stands ``--``, so that
    it is no option.
    """
    operands = [str(name) for name in names]
    separator = ["--"] if any(name.startswith("-") for name in operands) else []
    return " ".join(quoted(word) for word in [*map(str, words), *separator, *operands])


def quoted(word: str) -> str:
    """``word`` for a POSIX shell; what can't be printed is spelt out (``$'a\\x1b'``: POSIX.1-2024, bash, zsh, ksh)."""
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(_spelt(character) for character in word) + "'"


def _spelt(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    return character if character.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
