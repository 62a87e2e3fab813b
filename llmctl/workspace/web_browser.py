"""Opens a page in the user's browser. Its address has a secret, which must not stand in the list of processes."""

from __future__ import annotations

import html
import os
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llmctl.errors import ResourceError
from llmctl.files import atomic
from llmctl.types.listener import Listener

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
NOT_OPENED = "no browser was opened: the address above is what to open"


@contextmanager
def opened(address: str, listener: Listener) -> Iterator[None]:
    """Opens ``address`` by a file that only this user may read, which goes away with the context; the listener is told
    where that can't be."""
    file = None
    try:
        if _has_display():
            file = _written(address)
            threading.Thread(target=_open, args=(file, listener), name="browser", daemon=True).start()
        else:
            listener.note(NOT_OPENED)
    except ResourceError as error:
        listener.warn(f"{NOT_OPENED} ({error.message})")
    try:
        yield
    finally:
        if file is not None:
            file.unlink(missing_ok=True)


def _has_display() -> bool:
    """Whether there is a browser with windows: one in the terminal would take that from this command."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in DISPLAYS)


def _written(address: str) -> Path:
    """Raises ResourceError."""
    from llmctl.engine.warm import entry

    file = entry.folder() / f"page-{os.getpid()}.html"
    page = f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={html.escape(address)}">'
    try:
        atomic.write(file, page.encode())
    except OSError as error:
        raise ResourceError(f"{file} can't be written: {error.strerror or error}") from error
    return file


def _open(file: Path, listener: Listener) -> None:
    done = False
    with suppress(webbrowser.Error, OSError):
        done = webbrowser.open(file.as_uri())
    if not done:
        listener.note(NOT_OPENED)
