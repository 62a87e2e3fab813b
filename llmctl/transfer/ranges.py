"""A set of byte ranges of a file."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Span = tuple[int, int]


class Ranges:
    """Half-open ranges ``(start, end)`` in bytes: disjoint, not touching, in order."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._spans: list[Span] = []
        for start, end in spans:
            self.add(start, end)

    def __iter__(self) -> Iterator[Span]:
        return iter(tuple(self._spans))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._spans == other._spans

    def __repr__(self) -> str:
        return f"Ranges({self._spans})"

    def add(self, start: int, end: int) -> None:
        """Adds one range, which may overlap others."""
        if start >= end:
            return
        first = bisect_left(self._spans, start, key=lambda span: span[1])
        after = bisect_right(self._spans, end, key=lambda span: span[0])
        if first < after:
            start, end = min(start, self._spans[first][0]), max(end, self._spans[after - 1][1])
        self._spans[first:after] = [(start, end)]

    @property
    def total_bytes(self) -> int:
        return sum(end - start for start, end in self._spans)

    @property
    def prefix_bytes(self) -> int:
        """Bytes from the file's first one on without a gap."""
        return self._spans[0][1] if self._spans and self._spans[0][0] == 0 else 0

    @property
    def end(self) -> int:
        return self._spans[-1][1] if self._spans else 0

    def gaps(self, end: int) -> Iterator[Span]:
        """What is missing before ``end``, in order."""
        at = 0
        for start, after in self._spans:
            if start >= end:
                break
            if at < start:
                yield at, start
            at = after
        if at < end:
            yield at, end

    def before(self, end: int) -> Ranges:
        """The parts of the ranges before ``end``."""
        return Ranges((start, min(after, end)) for start, after in self._spans)
