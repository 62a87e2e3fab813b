"""A gateway's guards on a real socket, before an application of the test's own."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp

from llmctl.server.gateway import Gateway

LOOK_S = 0.005


@contextmanager
def listening(app: ASGIApp, *, tls: ssl.SSLContext | None = None, **given: Any) -> Iterator[int]:
    """The port on 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as bound, running(Gateway(app, bound, tls=tls, **given)):
        yield bound.getsockname()[1]


@contextmanager
def running(gateway: Gateway) -> Iterator[None]:
    thread = threading.Thread(target=gateway.run)
    thread.start()
    try:
        while not gateway.is_listening:
            time.sleep(LOOK_S)
        yield
    finally:
        gateway.stop(at_once=True)
        thread.join(timeout=10)
