"""Commands as text that a person pastes into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from os import PathLike


def command(*words: str | PathLike[str], names: Sequence[str | PathLike[str]] = ()) -> str:
    """``words`` and then ``names`` as one line, quoted for a POSIX shell: nothing in them is run or taken apart.

    ``names`` come from elsewhere (a hub, a file, the user): before one that begins with a dash stands ``--``, so that
    it is no option.
    """
    operands = [str(name) for name in names]
    separator = ["--"] if any(name.startswith("-") for name in operands) else []
    return shlex.join([*map(str, words), *separator, *operands])
