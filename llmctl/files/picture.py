"""What an image file says of its kind and its size. Nothing here decodes one."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

Size = tuple[int, int]


def media_type(data: bytes) -> str | None:
    """PNG, JPEG, GIF or WebP, by the first bytes; None for anything else."""
    return next((kind for magic, (kind, _) in KINDS.items() if data.startswith(magic)), None)


def size(data: bytes) -> Size:
    """Width and height in pixels. Raises ValueError for what is of no such kind, or ends before its size."""
    for magic, (_, read) in KINDS.items():
        if data.startswith(magic):
            try:
                return read(data)
            except (struct.error, IndexError) as error:
                raise ValueError("it ends before its width and height") from error
    raise ValueError("it is no PNG, JPEG, GIF or WebP")


def _png(data: bytes) -> Size:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> Size:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _jpeg(data: bytes) -> Size:
    """By the first frame header, behind the other segments."""
    at = 2
    while True:
        while data[at] == 0xFF:  # fill bytes before the marker's code
            at += 1
        code, (length,) = data[at], struct.unpack_from(">H", data, at + 1)
        if code in range(0xC0, 0xD0) and code not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 4)
            return width, height
        at += 1 + length


def _webp(data: bytes) -> Size:
    if data[8:12] != b"WEBP":
        raise ValueError("RIFF, but no WebP")
    if data[12:16] == b"VP8X":
        low, high, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
        return 1 + (low | high << 16), 1 + (low_height | high_height << 16)
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


KINDS: Mapping[bytes, tuple[str, Callable[[bytes], Size]]] = {
    b"\x89PNG\r\n\x1a\n": ("image/png", _png),
    b"\xff\xd8\xff": ("image/jpeg", _jpeg),
    b"GIF87a": ("image/gif", _gif),
    b"GIF89a": ("image/gif", _gif),
    b"RIFF": ("image/webp", _webp),
}
"""The first bytes of a file -> its kind, and how its size is read."""
