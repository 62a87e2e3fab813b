"""The beginning of a server's answer, held back for a moment: if a mark closes a thought that none has opened, it was
thoughts, and what is on stdout can't be taken back."""

from __future__ import annotations

import threading
from collections.abc import Callable

SOON_S = 0.5  # on a terminal, where somebody waits for the first word, and for a model of which nothing is known
PIPE_S = 2.0


class HeldBack:
    """Text is written ``hold_s`` after its first bit came, by a thread, so that nobody waits for the next bit; what
    comes later is written at once."""

    def __init__(self, write: Callable[[str], None], hold_s: float) -> None:
        self._write = write
        self._hold_s = hold_s
        self._bits: list[str] = []
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._released = False
        self._failed: Exception | None = None

    def add(self, text: str) -> None:
        """Raises what writing raises, of this or of what was held back."""
        with self._lock:
            if self._failed is not None:
                raise self._failed
            if self._released:
                self._write(text)
                return
            self._bits.append(text)
            if self._timer is None:
                self._timer = threading.Timer(self._hold_s, self._release_late)
                self._timer.daemon = True
                self._timer.start()

    def take(self) -> str | None:
        """What is held back, which won't be written; None if it has been."""
        with self._lock:
            if self._released:
                return None
            text, self._bits = "".join(self._bits), []
            self._released = True
            return text

    def release(self) -> None:
        """Writes what is held back. Raises what writing raises."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._failed is not None:
                raise self._failed
            self._write_all()

    def _release_late(self) -> None:
        with self._lock:
            try:
                self._write_all()
            except Exception as error:  # noqa: BLE001  # raised again where the command can end of it
                self._failed = error

    def _write_all(self) -> None:
        bits, self._bits, self._released = self._bits, [], True
        if bits:
            self._write("".join(bits))
