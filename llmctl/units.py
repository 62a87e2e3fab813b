"""Numbers as people read them: "4.7 GB", "9 tok/s", "6 min"; and sizes as people write them. The only place for it."""

from __future__ import annotations

import math
import re

SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


def size(value: int | float | None) -> str:
    """Bytes in decimal units, as disks and downloads are sold: 98,362,432 is "98 MB"."""
    if value is None:
        return "?"
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(amount) < 999.5 or unit == "TB":
            digits = 1 if unit in ("GB", "TB") and abs(amount) < 99.95 else 0
            return f"{amount:.{digits}f} {unit}"
        amount /= 1000
    raise AssertionError("unreachable")


def rate(bytes_per_s: float | None) -> str:
    return "?" if bytes_per_s is None else f"{size(bytes_per_s)}/s"


def tok_s(value: float | None) -> str:
    """Tokens per second with two significant digits: "0.04", "0.8", "9.4", "138"."""
    if value is None:
        return "?"
    if value < 0.1:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def seconds(value: float | None) -> str:
    """A duration: "0.6 s", "45 s", "6 min", "2.5 h"."""
    if value is None:
        return "?"
    if value < 9.95:
        return f"{value:.1f} s"
    if value < 89.5:
        return f"{value:.0f} s"
    if value < 89.5 * 60:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h"


DURATION = re.compile(r"(\d{1,9})([smhd]?)")


def duration_s(text: str) -> float:
    """Seconds of "30s", "5m", "1h", "30d", "0"; a number alone is seconds, "-1" is for ever. Raises ValueError."""
    if text == "-1":
        return math.inf
    made = DURATION.fullmatch(text)
    if made is None:
        raise ValueError
    return float(made[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}[made[2]]


def ago(value: float | None) -> str:
    """How long ago something was: "never", "just now", "5 minutes ago", "yesterday", "3 days ago", "2 years ago"."""
    if value is None:
        return "never"
    if value < 60:
        return "just now"
    for unit, length_s, most in (("minute", 60, 60), ("hour", 3600, 24), ("day", 86_400, 60), ("month", 2_629_800, 24)):
        number = int(value / length_s)
        if number < most:
            return "yesterday" if unit == "day" and number == 1 else f"{number_of(number, unit)} ago"
    return f"{int(value / 31_557_600)} years ago"


def count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def threads(number: int) -> str:
    return number_of(number, "thread")


def number_of(number: int, thing: str, things: str | None = None) -> str:
    """ "1 model", "2 models"; ``things`` where that is not ``thing`` with an s: "2 downloads hold"."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def parse_size(text: str) -> int:
    """Bytes of "4.7 GB", "500M" or "2GiB"; units are decimal unless they say otherwise. Raises ValueError."""
    match = SIZE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    unit: int = (1024 if match[3] else 1000) ** " kmgt".index(match[2].lower() or " ")
    return round(float(match[1]) * unit)
