"""What an engine's process writes on stderr, which is its log: no text of prompts and answers. Only for children."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from types import TracebackType

STDERR = 2
LIMIT_BYTES = 48 << 10  # of llama.cpp's lines: a crash comes behind them
INFO, WARN, ERROR = 2, 3, 4  # ggml.h, enum ggml_log_level
CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)  # ggml.h, ggml_log_callback


class NativeLog:
    """llama.cpp's lines: ``errors`` are the last ones; those of loading, and errors after it, are written to stderr,
    LIMIT_BYTES at most."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=20)
        self._least = INFO
        self._left_bytes = LIMIT_BYTES
        self._callback = CALLBACK(self._hear)  # ctypes does not hold a reference for us

    def listen(self) -> None:
        import llama_cpp

        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def listen_to_mtmd(self) -> None:
        """The library of vision projectors has a log of its own, which by default shows prompts."""
        from llama_cpp import mtmd_cpp

        mtmd_cpp.mtmd_log_set(self._callback, ctypes.c_void_p(0))
        mtmd_cpp.mtmd_helper_log_set(self._callback, ctypes.c_void_p(0))

    def loaded(self) -> None:
        """From now on only errors are written."""
        self._least = ERROR

    def taken(self) -> str:
        """The first error, which is told by whoever takes it; then there is none."""
        words = self.errors[0] if self.errors else "llama.cpp gives no reason"
        self.errors.clear()
        return words

    def _hear(self, level: int, text: bytes, _: object) -> None:
        if level == ERROR:
            self.errors.append(text.decode("utf-8", "replace").strip())
        if self._least <= level <= ERROR and len(text) <= self._left_bytes:
            self._left_bytes -= len(text)
            with contextlib.suppress(OSError):
                os.write(STDERR, text)


def tell_crashes() -> None:
    """A crash says by which signal and where in the code; an exception that nobody catches its kind and place. Neither
    says a value, and no image of the memory is kept, which holds prompts."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()
    sys.excepthook = _tell
    threading.excepthook = lambda hooked: _tell(hooked.exc_type, hooked.exc_value, hooked.exc_traceback)


def _tell(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    lines = traceback.format_tb(trace)
    with contextlib.suppress(OSError):
        os.write(STDERR, "".join([*lines, kind.__name__, "\n"]).encode("utf-8", "replace"))


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Meanwhile nothing is written on stderr: for calls in which llama.cpp shows what it was given."""
    kept, nothing = os.dup(STDERR), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, STDERR)
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
        os.close(nothing)
