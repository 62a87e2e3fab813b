"""What the kernel's text files have in common: small numbers, key-value lines, lists of CPUs. Nothing here raises."""

from __future__ import annotations

MOST_DIGITS = 19  # of a 64-bit number; longer is not a number that the kernel wrote
MOST_CPUS = 1 << 16


def whole(text: str | None) -> int | None:
    """``text`` as a whole number, zero or more; None for anything else, and for None."""
    stripped = (text or "").strip()
    return int(stripped) if stripped.isascii() and stripped.isdecimal() and len(stripped) <= MOST_DIGITS else None


def pairs(text: str | None, separator: str | None = None) -> dict[str, str]:
    """Lines "key<separator>value" as a dictionary; lines of another form are skipped, the first of a key counts."""
    found: dict[str, str] = {}
    for line in (text or "").splitlines():
        key, *value = line.split(separator, 1)
        if value:
            found.setdefault(key.strip(), value[0].strip())
    return found


def cpu_list(text: str | None) -> frozenset[int]:
    """The kernel's list format, "0-3,8": {0, 1, 2, 3, 8}. Empty if ``text`` is not such a list."""
    cpus: set[int] = set()
    for part in (text or "").strip().split(","):
        first, _, last = part.partition("-")
        low, high = whole(first), whole(last or first)
        if low is None or high is None or not low <= high < MOST_CPUS:
            return frozenset()
        cpus.update(range(low, high + 1))
    return frozenset(cpus)
