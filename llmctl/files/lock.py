"""One writer per file, over all processes. The operating system frees the lock of a process that dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llmctl.errors import ResourceError

LOOK_S = 0.25
MODELS_ELSEWHERE = "keep models where you may write: export HF_HOME=/path XDG_DATA_HOME=/path"


@contextmanager
def locked(path: Path, *, waiting: Callable[[], None], hint: str = MODELS_ELSEWHERE) -> Iterator[None]:
    """Holds the lock at ``path``; calls ``waiting`` every LOOK_S until it is free. Raises ResourceError."""
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        while True:
            try:
                lock.acquire(timeout=LOOK_S)
                break
            except Timeout:
                waiting()
    except (OSError, NotImplementedError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ResourceError(f"{path.parent} can't be written to: {reason}", hint=hint) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def locked_now(path: Path, name: str) -> Iterator[None]:
    """Holds the lock at ``path``, or raises ResourceError if another process has it: a file of ``name`` is being
    written."""

    def busy() -> None:
        raise ResourceError(
            f"a file of {name} is being written by another process",
            hint="run the same command again when that is done",
        )

    with locked(path, waiting=busy):
        yield
