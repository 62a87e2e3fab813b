"""A file in several parts without writing them: each part is bytes of its own, and spans of files on this disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

BLOCK_BYTES = 1 << 20


class Span(Struct, frozen=True):
    """``size_bytes`` of the file at ``path``, from the byte ``offset`` on."""

    path: Path
    offset: int
    size_bytes: int


class Piece(Struct, frozen=True):
    """A file that begins with ``head`` and goes on with ``spans``, one behind the other."""

    head: bytes
    spans: tuple[Span, ...]

    @property
    def size_bytes(self) -> int:
        return len(self.head) + sum(span.size_bytes for span in self.spans)

    def read(self, begin: int, end: int) -> Iterator[bytes]:
        """The bytes from ``begin`` to before ``end``, in blocks. Raises OSError; what others have cut off meanwhile is
        missing."""
        if begin < len(self.head):
            yield self.head[begin:end]
        start = len(self.head)
        for span in self.spans:
            first, behind = max(begin - start, 0), min(end - start, span.size_bytes)
            if first < behind:
                yield from _blocks(span.path, span.offset + first, behind - first)
            start += span.size_bytes


def whole_file(path: Path) -> Piece:
    """Raises OSError."""
    return Piece(b"", (Span(path, 0, path.stat().st_size),))


def _blocks(path: Path, offset: int, size_bytes: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as stream:
        stream.seek(offset)
        while size_bytes > 0 and (block := stream.read(min(BLOCK_BYTES, size_bytes))):
            size_bytes -= len(block)
            yield block
