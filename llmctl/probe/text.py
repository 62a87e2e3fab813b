"""What the kernel's text files have in common: small numbers, key-value lines, lists of CPUs. Nothing here raises."""

from __future__ import annotations

MOST_DIGITS = 19  # of a 64-bit number; longer is not a number that the kernel wrote
MOST_CPUS = 1 << 13  # NR_CPUS of the largest kernels (MAXSMP in arch/x86/Kconfig)
LONGEST_LINE = 200


def line(text: str | None) -> str:
    """``text`` as one line that can be shown to people: printable, single blanks, not too long."""
    start = (text or "")[: 4 * LONGEST_LINE]
    printable = "".join(letter if letter.isprintable() else " " for letter in start)
    return " ".join(printable.split())[:LONGEST_LINE].rstrip()


def whole(text: str | None) -> int | None:
    """``text`` as a whole number, zero or more; None for anything else, and for None."""
    stripped = (text or "").strip()
    return int(stripped) if stripped.isascii() and stripped.isdecimal() and len(stripped) <= MOST_DIGITS else None


def pairs(text: str | None, separator: str | None = None) -> dict[str, str]:
    """Lines "key<separator>value" as a dictionary; lines of another form are skipped, the first of a key counts."""
    values: dict[str, str] = {}
    for text_line in (text or "").splitlines():
        words = text_line.split(separator, 1)
        if len(words) == 2:
            values.setdefault(words[0].strip(), words[1].strip())
    return values


def cpuinfo(text: str | None) -> dict[str, str]:
    """What /proc/cpuinfo says of the first processor, and of all: a board's lines stand after the last one's."""
    all_of_it = text or ""
    return {**pairs(all_of_it.rpartition("\n\n")[2], ":"), **pairs(all_of_it.partition("\n\n")[0], ":")}


def cpu_list(text: str | None) -> frozenset[int]:
    """The kernel's list format, "0-3,8": {0, 1, 2, 3, 8}. Empty if ``text`` is not such a list."""
    cpus: set[int] = set()
    for part in (text or "").strip().split(","):
        first, dash, last = part.partition("-")
        low, high = whole(first), whole(last if dash else first)
        if low is None or high is None or not low <= high < MOST_CPUS:
            return frozenset()
        cpus.update(range(low, high + 1))
    return frozenset(cpus)
