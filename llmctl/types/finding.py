"""What doctor finds."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(Struct, frozen=True):
    """One finding. ``id`` is stable; ``remedy`` is what to type, None where nothing is to be done."""

    id: str
    status: Status
    message: str
    remedy: str | None = None
