"""The sha256 of a file while it is being written, so that there is nothing to wait for in the end."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from pathlib import Path

MOST_PIECES_BYTES = 16 << 20  # pieces kept in memory for the hash; what doesn't fit is read from the file again
READ_AT_ONCE_BYTES = 1 << 20


class Hasher:
    """Hashes the file at ``path`` in a thread, from its first byte on, as far as it is written by ``grow``.

    A context: the file must exist when it begins, and the thread ends with it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._news = threading.Condition()
        self._reset()
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

    def _reset(self) -> None:
        self._hash = hashlib.sha256()
        self._hashed_bytes = 0
        self._written_bytes = 0
        self._pieces: deque[bytes | memoryview] = deque()
        self._pieces_end = 0  # where the pieces, which follow the hashed bytes without a gap, end

    def restart(self) -> None:
        """Begins anew, for new content of the file."""
        with self._news:
            self._reset()

    def grow(self, written_bytes: int, at: int, piece: bytes | memoryview) -> None:
        """Says that the first ``written_bytes`` are written, and ``piece``, which must not change, at ``at``."""
        with self._news:
            self._written_bytes = max(self._written_bytes, written_bytes)
            if piece and at == self._pieces_end and self._pieces_end - self._hashed_bytes < MOST_PIECES_BYTES:
                self._pieces.append(piece)
                self._pieces_end += len(piece)
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
                        while not self._over and self._hashed_bytes == max(self._pieces_end, self._written_bytes):
                            self._news.wait()
                        if self._over:
                            return
                        current, at = self._hash, self._hashed_bytes
                        piece = self._pieces.popleft() if self._pieces else None
                        wanted_bytes = min(self._written_bytes - at, READ_AT_ONCE_BYTES)
                    if piece is None:
                        file.seek(at)
                        piece = buffer[: file.readinto(buffer[:wanted_bytes])]
                    current.update(piece)
                    with self._news:
                        if current is self._hash:
                            if not piece:
                                raise OSError(f"{self.path.name} has become shorter")
                            self._hashed_bytes += len(piece)
                            self._pieces_end = max(self._pieces_end, self._hashed_bytes)
                            self._news.notify_all()
        except OSError as error:
            with self._news:
                self._error = error
                self._news.notify_all()
