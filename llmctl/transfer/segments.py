"""Which connection fetches which part of a file.

What is missing is given out from the front, so that the hash can follow, and in parts that become smaller towards the
end, so that all connections end at about the same time. A connection that finds nothing left takes over a part of what
another one still has to fetch.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from llmctl.transfer.partial_file import Chunk, PartialFile
from llmctl.transfer.ranges import Span

LEAST_BYTES = 1 << 20
FEW_BYTES = 8 << 20  # what is enough to make up for the round trip that asking costs, on the fastest of lines
MOST_BYTES = 64 << 20  # the hash can't follow across what the slowest has not fetched yet
ENDLESS_BYTES = 1 << 62  # the end of a file whose size is not stated


@dataclass(eq=False)
class Segment:
    """Bytes ``start`` to ``end``, those from ``at`` on still to be fetched; ``end`` may come nearer at any time."""

    start: int
    at: int
    end: int
    epoch: int


class Segments:
    """The segments of the file of ``partial``. ``total_bytes`` is None until a server states it."""

    def __init__(self, partial: PartialFile, total_bytes: int | None) -> None:
        self.total_bytes = total_bytes
        self._partial = partial
        self._taken: list[Segment] = []
        self._lock = threading.Lock()

    @property
    def end(self) -> int:
        return ENDLESS_BYTES if self.total_bytes is None else self.total_bytes

    def set_total_bytes(self, total_bytes: int) -> None:
        """Records the file's size and trims segments beyond it."""
        with self._lock:
            self.total_bytes = total_bytes
            for segment in self._taken:
                segment.end = min(segment.end, total_bytes)

    @property
    def complete(self) -> bool:
        return self.total_bytes is not None and self._partial.done_bytes >= self.total_bytes

    def take(self, connections: int, second_bytes: float) -> Segment | None:
        """The next part for one of so many connections, each of which brings about ``second_bytes`` in a second; None
        if there is nothing left that would be worth it.

        The only connection gets everything up to the next byte that is there, and so has to ask only once.
        """
        least_bytes = _least(second_bytes)
        with self._lock:
            free = self._free()
            if free and connections == 1:
                return self._give(*free[0])
            if free:
                start, end = free[0]
                return self._give(start, min(end, start + _share(_total(free), connections, least_bytes)))
            return self._split(connections, least_bytes)

    def extend(self, segment: Segment, connections: int, second_bytes: float) -> bool:
        """Adds to a segment at its end, for an answer that goes on there. False where that is another's, or where
        something before it should come first."""
        with self._lock:
            free = self._free()
            if segment not in self._taken or not free or free[0][0] != segment.end:
                return False
            segment.end = free[0][1]
            if connections > 1:
                share_bytes = _share(_total(free), connections, _least(second_bytes))
                segment.end = min(segment.end, free[0][0] + share_bytes)
            return True

    def _free(self) -> list[Span]:
        spoken_for = self._partial.written
        for segment in self._taken:
            spoken_for.add(segment.start, segment.end)
        return list(spoken_for.gaps(self.end))

    def _split(self, connections: int, least_bytes: int) -> Segment | None:
        largest = max(self._taken, key=lambda segment: segment.end - segment.at, default=None)
        if largest is None or self.total_bytes is None or largest.end - largest.at < 2 * least_bytes:
            return None
        left_bytes = largest.end - largest.at
        share_bytes = min(left_bytes // 2, _share(left_bytes, connections, least_bytes))
        largest.end = largest.at + share_bytes
        return self._give(largest.end, largest.end + share_bytes)

    def _give(self, start: int, end: int) -> Segment:
        segment = Segment(start, start, end, self._partial.epoch)
        self._taken.append(segment)
        return segment

    def give_back(self, segment: Segment) -> None:
        """Frees what is left of the segment for other connections."""
        with self._lock:
            if segment in self._taken:
                self._taken.remove(segment)

    def write(self, segment: Segment, piece: Chunk) -> int:
        """Writes the bytes of ``piece``, the next ones, that belong to the segment. Returns how many."""
        with self._lock:
            if segment not in self._taken:
                return 0
            at = segment.at
            belongs_bytes = min(len(piece), segment.end - at)
            segment.at += belongs_bytes
        if belongs_bytes < len(piece):
            piece = memoryview(piece)[:belongs_bytes]
        self._partial.write(at, piece, segment.epoch)
        return belongs_bytes

    def alone(self, segment: Segment) -> bool:
        """Whether no other connection fetches a part of the file now."""
        with self._lock:
            return self._taken == [segment]

    def restart(self) -> None:
        """Forgets every byte and every segment."""
        with self._lock:
            self._taken.clear()
            self._partial.restart()

    def start_over(self) -> Segment:
        """Forgets every byte, and gives the whole file to the caller as one segment."""
        with self._lock:
            self._taken.clear()
            self._partial.restart()
            return self._give(0, self.end)


def _total(spans: list[Span]) -> int:
    return sum(end - start for start, end in spans)


def _least(second_bytes: float) -> int:
    return round(max(LEAST_BYTES, min(FEW_BYTES, second_bytes)))


def _share(left_bytes: int, connections: int, least_bytes: int) -> int:
    return max(least_bytes, min(MOST_BYTES, left_bytes // (2 * connections)))
