"""The logs of engines: llama.cpp's own lines while it loads and when it fails, never a prompt or an answer.

Each start has one in the state folder, for this user alone. It goes when the engine ends in order, so that what stays
tells of a failure; of those the last KEPT stay, for KEPT_S.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from llmctl import paths
from llmctl.errors import ConfigError

KEPT = 20
KEPT_S = 7 * 86_400
SUFFIX = ".log"
ENGINES, GATEWAYS = "engines", "gateways"  # folders of the state folder
READ_BYTES = 64 << 10  # from the end; the engine stops writing before (``llama_cpp.native_log``)
ASSERTION = "GGML_ASSERT"  # ggml's own words before it aborts
FATAL = "Fatal Python error: "  # as faulthandler begins: the signal by its name
WITHOUT_BACKTRACE = {"GGML_NO_BACKTRACE": "1"}  # else an abort starts a debugger, which takes a second
EXCEPTION = re.compile(r"^terminate called after throwing an instance of |^ +what\(\): +")  # of the C++ library


class EngineLog:
    """The log of one engine that is started, or of a gateway, in a ``folder`` for its kind. ``path`` is None where the
    state folder can't be written to: then it is kept until the engine ends, in a file without a name."""

    def __init__(self, folder: str = ENGINES) -> None:
        self.path, self.file = _created(folder)

    def text(self) -> str:
        """What it says; empty after ``close``."""
        if self.file.closed:
            return ""
        end = self.file.seek(0, os.SEEK_END)
        self.file.seek(max(0, end - READ_BYTES))
        return self.file.read().decode("utf-8", "replace")

    def remove(self) -> None:
        """For an engine that has ended in order, or that another command takes the end of."""
        self.close()
        remove(self.path)

    def close(self) -> None:
        self.file.close()


def read(path: str | Path | None) -> str:
    """What the log at ``path`` says; empty where there is none."""
    with suppress(OSError), Path(path or os.devnull).open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - READ_BYTES))
        return file.read().decode("utf-8", "replace")
    return ""


def crash_words(text: str) -> str:
    """What a log says of a crash: an assertion of llama.cpp that failed, else what C++ did not catch, or the name of a
    signal; empty where it says nothing of one."""
    lines = text.splitlines()
    said = [line for line in lines if ASSERTION in line]
    said += [EXCEPTION.sub("", line) for line in reversed(lines) if EXCEPTION.match(line)]
    said += [line.removeprefix(FATAL) for line in lines if line.startswith(FATAL)]
    return (*said, "")[0].strip()[:200]


def remove(path: str | Path | None) -> None:
    if path is not None:
        with suppress(OSError):
            Path(path).unlink()


def kept(folder: str) -> list[Path]:
    """The logs of that kind, the last one first."""
    with suppress(OSError, ConfigError):
        return sorted((paths.state_dir() / folder).glob(f"*{SUFFIX}"), reverse=True)
    return []


def _created(kind: str) -> tuple[Path | None, BinaryIO]:
    with suppress(OSError, ConfigError):
        folder = paths.state_dir() / kind
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_old(folder)
        path = folder / f"{time.strftime('%Y-%m-%d-%H%M%S', time.gmtime())}-{os.urandom(4).hex()}{SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        return path, os.fdopen(os.open(path, flags, 0o600), "rb")
    import tempfile

    return None, tempfile.TemporaryFile()


def _remove_old(folder: Path) -> None:
    """Those of the last KEPT_S stay, and KEPT of them."""
    logs = sorted(folder.glob(f"*{SUFFIX}"), reverse=True)
    oldest = time.strftime("%Y-%m-%d", time.gmtime(time.time() - KEPT_S))
    for log in (log for at, log in enumerate(logs) if at >= KEPT - 1 or log.name < oldest):
        remove(log)
