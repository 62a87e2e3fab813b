"""What an engine that stays writes on stderr: the last words of a crash, never a prompt or an answer. One file for each
in the state folder, removed when the engine ends in order."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from llmctl import paths
from llmctl.errors import ConfigError

KEPT_S = 7 * 86_400
READ_BYTES = 16 << 10
ASSERTION = "GGML_ASSERT"  # ggml's own words before it aborts
FATAL = "Fatal Python error: "  # as faulthandler begins: the signal by its name


def place(entry_file: Path) -> Path:
    return paths.state_dir() / "engines" / f"{entry_file.stem}.log"


def opened(entry_file: Path) -> int:
    """A descriptor to write to; that of nothing where there can be no file. Old files go."""
    with suppress(OSError, ConfigError):
        log = place(entry_file)
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_old(log.parent)
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    return os.open(os.devnull, os.O_WRONLY)


def last_words(entry_file: Path) -> str:
    """Why the engine has died: an assertion that failed, or the name of a signal; empty where nothing tells."""
    try:
        with place(entry_file).open("rb") as file:
            lines = file.read(READ_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    said = (line.removeprefix(FATAL).strip() for line in lines if line.startswith(FATAL) or ASSERTION in line)
    return next(said, "")[:200]


def remove(entry_file: Path) -> None:
    with suppress(OSError):
        place(entry_file).unlink()


def _remove_old(folder: Path) -> None:
    for file in folder.glob("*.log"):
        if time.time() - file.stat().st_mtime > KEPT_S:
            file.unlink()
