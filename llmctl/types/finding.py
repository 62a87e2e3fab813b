"""What doctor finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``id`` is stable; ``remedy`` is what to type, None where nothing is to be done."""

    id: str
    status: Status
    message: str
    remedy: str | None = None
