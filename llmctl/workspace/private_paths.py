"""Files that the user, or a project, wants to stay on this machine: those under ``private_paths``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from llmctl.settings import Settings
from llmctl.types.listener import Listener

STDIN = Path("/proc/self/fd/0")  # where the system tells which file it is


def is_private(listener: Listener, settings: Settings, files: Iterable[str]) -> bool:
    """Whether one of the files lies under ``private_paths``, by its name or by where a link leads; the listener hears
    which one."""
    for file in files:
        if any(_lies_under(Path(file), root) for root in settings.private_paths):
            listener.note(f"  {file} is under private_paths: the prompt stays on this machine")
            return True
    return False


def redirected_stdin() -> tuple[str, ...]:
    """The file that stdin is, none for a pipe or a terminal."""
    with suppress(OSError):
        if STDIN.is_file():
            return (os.readlink(STDIN),)  # noqa: PTH115  the name, not the way from here
    return ()


def _lies_under(file: Path, root: Path) -> bool:
    names = {Path(os.path.abspath(file)), Path(os.path.realpath(file))}  # noqa: PTH100
    roots = {Path(os.path.abspath(root)), Path(os.path.realpath(root))}  # noqa: PTH100
    return any(name.is_relative_to(place) for name in names for place in roots)
