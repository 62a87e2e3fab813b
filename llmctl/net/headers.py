"""Numbers in headers. None for whatever can't be one."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,19})-([0-9]{1,19})|\*)/([0-9]{1,19}|\*)")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a 429 or 503 asks to wait, which it says as a number or as the date until when."""
    value = headers.get("Retry-After")
    seconds = whole_number(value)
    return _until_s(value) if value is not None and seconds is None else seconds


def _until_s(date: str) -> float | None:
    """Seconds from now to a date of HTTP, 0 for one that is over."""
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def whole_number(value: str | None) -> int | None:
    """What a header such as Content-Length says; None for anything but up to 19 plain digits."""
    return int(value) if value is not None and re.fullmatch(r"[0-9]{1,19}", value) else None


def content_range(value: str) -> tuple[int, int, int | None]:
    """First byte, the one after the last, and total of a Content-Range; -1 and 0 where it says nothing, None for an
    unknown total."""
    match = CONTENT_RANGE.fullmatch(value.strip())
    if match is None:
        return -1, 0, None
    begin, last = (int(match[1]), int(match[2])) if match[1] else (-1, -1)
    return begin, last + 1, None if match[3] == "*" else int(match[3])
