"""The sha256 of a file while it is being written: hashing goes on in the shadow of the transfer."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from pathlib import Path

HELD_BYTES = 16 << 20  # pieces kept in memory for the hash; what doesn't fit is read from the file again
READ_AT_ONCE_BYTES = 1 << 20


class Hasher:
    """Hashes the file at ``path`` from its first byte on, in a thread of its own, as far as it is told that bytes are
    there. A context: the file must exist when it begins, and the thread ends with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._news = threading.Condition()
        self._forget()
        self._over = False
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="sha256", daemon=True)

    def __enter__(self) -> Hasher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._news:
            self._over = True
            self._news.notify_all()
        self._thread.join()

    def _forget(self) -> None:
        self._hash = hashlib.sha256()
        self._hashed_bytes = 0
        self._there_bytes = 0
        self._held: deque[bytes | memoryview] = deque()
        self._held_end = 0  # where the held pieces, which follow the hashed bytes without a hole, end

    def restart(self) -> None:
        """The file is about to get new content."""
        with self._news:
            self._forget()

    def grow(self, there_bytes: int, at: int, piece: bytes | memoryview) -> None:
        """The file's first ``there_bytes`` are written; the latest news is ``piece``, written at ``at``, which nobody
        changes any more."""
        with self._news:
            self._there_bytes = max(self._there_bytes, there_bytes)
            if piece and at == self._held_end and self._held_end - self._hashed_bytes < HELD_BYTES:
                self._held.append(piece)
                self._held_end += len(piece)
            self._news.notify()

    def sha256(self, size_bytes: int) -> str:
        """The sha256 of the first ``size_bytes``, which are there, in hex; waits for it. Raises OSError if the file
        can't be read."""
        with self._news:
            while self._error is None and self._hashed_bytes < size_bytes:
                self._news.wait()
            if self._error is not None:
                raise self._error
            return self._hash.hexdigest()

    def _run(self) -> None:
        try:
            with self.path.open("rb", buffering=0) as file:
                buffer = memoryview(bytearray(READ_AT_ONCE_BYTES))
                while True:
                    with self._news:
                        while not self._over and self._hashed_bytes == max(self._held_end, self._there_bytes):
                            self._news.wait()
                        if self._over:
                            return
                        current, at = self._hash, self._hashed_bytes
                        piece = self._held.popleft() if self._held else None
                        wanted_bytes = min(self._there_bytes - at, READ_AT_ONCE_BYTES)
                    if piece is None:
                        file.seek(at)
                        piece = buffer[: file.readinto(buffer[:wanted_bytes])]
                    current.update(piece)
                    with self._news:
                        if current is self._hash:
                            if not piece:
                                raise OSError(f"{self.path.name} has become shorter")
                            self._hashed_bytes += len(piece)
                            self._held_end = max(self._held_end, self._hashed_bytes)
                            self._news.notify_all()
        except OSError as error:
            with self._news:
                self._error = error
                self._news.notify_all()
