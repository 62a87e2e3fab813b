"""Sealed chunks in a stream of bytes: each after its length, the last, which goes on to the end, after a zero."""

from __future__ import annotations

from llmctl.sealed.integers import IncompleteError, decoded, encoded
from llmctl.sealed.message_error import SealedMessageError

DATA_BYTES = 16_384  # that whoever receives has to take
TAG_BYTES = 16
CHUNK_BYTES = 1 << 20  # that are taken here
FINAL = b"final"  # what the last chunk is sealed with


def framed(sealed: bytes, *, is_final: bool) -> bytes:
    return (b"\0" if is_final else encoded(len(sealed))) + sealed


class ChunkSplitter:
    """Takes a stream as it comes. Raises SealedMessageError for a chunk that is too long, or holds nothing though it
    isn't the last."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_last = False

    def feed(self, data: bytes) -> list[bytes]:
        """The chunks that are complete by now, without the last one."""
        self._buffer += data
        chunks: list[bytes] = []
        while not self._is_last and (chunk := self._next()) is not None:
            chunks.append(chunk)
        if len(self._buffer) > 2 * CHUNK_BYTES:
            raise SealedMessageError(f"a chunk of more than {CHUNK_BYTES:,} bytes")
        return chunks

    def end(self) -> bytes:
        """The last chunk. Raises SealedMessageError where it hasn't begun: the stream was cut off."""
        if not self._is_last:
            raise SealedMessageError("the last chunk is missing")
        return bytes(self._buffer)

    def _next(self) -> bytes | None:
        try:
            length, at = decoded(self._buffer)
        except IncompleteError:
            return None
        if not length:
            self._is_last = True
            del self._buffer[:at]
            return None
        if not TAG_BYTES < length <= CHUNK_BYTES:
            raise SealedMessageError(f"a chunk of {length:,} bytes")
        if len(self._buffer) < at + length:
            return None
        chunk = bytes(self._buffer[at : at + length])
        del self._buffer[: at + length]
        return chunk
