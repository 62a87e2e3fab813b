"""Names that lead to this machine."""

from __future__ import annotations

import socket
from typing import Any

import pytest


@pytest.fixture
def afar(monkeypatch: pytest.MonkeyPatch) -> None:
    """llm.example.internal, a name that is not loopback's, leads to this machine."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host == "llm.example.internal" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
