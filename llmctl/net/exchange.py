"""One request after another over a session: what was sent of them, and a deadline for what is waited for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from msgspec import Struct

from llmctl.net.timing import Timing

IDLE_S = 3600.0  # the thread sleeps so long where nothing has a deadline


class Deadline:
    """Shuts a socket when the time is up. Time-outs of sockets start anew with every byte; this does not.

    The thread that waits at the socket sees the end of its connection. Used by one thread, but for ``end``.
    """

    def __init__(self) -> None:
        self.passed = False
        self._socket: socket.socket | None = None
        self._end_s: float | None = None
        self._wakes_s = 0.0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def watch(self, opened: socket.socket | None) -> None:
        with self._changed:
            self._socket = opened
            if self.passed and opened is not None:
                _shut(opened)

    def set(self, seconds: float) -> None:
        """The connection ends in ``seconds`` unless ``clear`` is called before."""
        with self._changed:
            self._end_s = time.monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._wait, name="deadline", daemon=True)
                self._thread.start()
            elif self._end_s < self._wakes_s:
                self._changed.notify()

    def end(self) -> None:
        """Called by another thread: the time is up now."""
        with self._changed:
            self._end()

    def clear(self) -> None:
        with self._changed:
            self._end_s = None

    def renew(self) -> None:
        """For the next request: a deadline that has passed is forgotten."""
        with self._changed:
            self._end_s, self.passed = None, False

    def close(self) -> None:
        """Ends the thread."""
        with self._changed:
            self._end_s, self._socket, self._thread = None, None, None
            self._changed.notify()

    def _end(self) -> None:
        self.passed, self._end_s = True, None
        if self._socket is not None:
            _shut(self._socket)

    def _wait(self) -> None:
        with self._changed:
            while self._thread is threading.current_thread():
                now_s = time.monotonic()
                end_s = now_s + IDLE_S if self._end_s is None else self._end_s
                if end_s > now_s:
                    self._wakes_s = end_s
                    self._changed.wait(end_s - now_s)
                else:
                    self._end()


def _shut(opened: Any) -> None:
    """Ends a read or write that waits at the socket. Not by TLS, whose shutdown must not run beside a read."""
    shut = socket.socket.shutdown if isinstance(opened, socket.socket) else type(opened).shutdown
    with suppress(OSError, ValueError, AttributeError):  # it has ended by itself
        shut(opened, socket.SHUT_RDWR)


class Peer(Struct, frozen=True):
    """The other end of a TLS connection: its ``certificate`` (DER), and the version that was agreed on, "TLSv1.3"."""

    certificate: bytes
    version: str


class Exchange:
    """What the connections of a session report to.

    ``peer`` is who was at the other end of the last TLS connection, None before there was one.
    ``sent_bytes`` counts the bytes of request bodies that were handed to the operating system for sending, those of
    every try; headers don't count, nor does what waits in a buffer of ours. ``on_sent`` is called with every share.
    """

    def __init__(self, timing: Timing, on_sent: Callable[[int], None] | None = None) -> None:
        self.timing = timing
        self.peer: Peer | None = None
        self.sent_bytes = 0
        self.deadline = Deadline()
        self._on_sent = on_sent

    def sent(self, count: int) -> None:
        self.sent_bytes += count
        if self._on_sent is not None:
            self._on_sent(count)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Whatever waits for the other side in here ends after ``seconds``. Raises TimeoutError then."""
        self.deadline.set(seconds)
        try:
            yield
        except Exception as error:
            if self.deadline.passed:
                raise TimeoutError(f"nothing whole in {seconds:g} s") from error
            raise
        finally:
            self.deadline.clear()
        if self.deadline.passed:
            raise TimeoutError(f"nothing whole in {seconds:g} s")
