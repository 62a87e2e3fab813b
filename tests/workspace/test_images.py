"""Images by their first bytes: what kind, how large, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from llmctl.errors import UsageError
from llmctl.workspace import images
from llmctl.workspace.images import LIMIT_BYTES


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x06\0\0\0"


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0"


def jpeg(width: int, height: int) -> bytes:
    thumbnail = b"\xff\xe1" + struct.pack(">H", 12) + b"\xff\xc0\0\x09\x08\0\x01\0\x01\x03"
    tables = b"\xff\xff\xc4" + struct.pack(">H", 4) + b"\0\0"  # with a fill byte
    return b"\xff\xd8" + thumbnail + tables + b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3)


def webp(kind: bytes, header: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 100) + b"WEBP" + kind + struct.pack("<I", 10) + header


def lossy(width: int, height: int) -> bytes:
    return webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height))


def lossless(width: int, height: int) -> bytes:
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14))


def extended(width: int, height: int) -> bytes:
    return webp(b"VP8X", b"\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"))


MAKERS = {
    "image/png": png,
    "image/gif": gif,
    "image/jpeg": jpeg,
    "image/webp": lossy,
    "image/webp ": lossless,
    "image/webp  ": extended,
}


@pytest.mark.parametrize(("media_type", "made"), MAKERS.items())
def test_an_image_is_known_by_its_first_bytes(tmp_path: Path, media_type: str, made: object) -> None:
    assert callable(made)
    file = tmp_path / "image.txt"
    file.write_bytes(made(9000, 7000))
    read = images.read(str(file))
    assert (read.data, read.media_type) == (file.read_bytes(), media_type.strip())
    file.write_bytes(made(16000, 9000))
    with pytest.raises(UsageError, match="16,000 x 9,000 pixels"):
        images.read(str(file))
    for length in range(12, len(made(8, 8)) - 5):
        file.write_bytes(made(8, 8)[:length])
        with pytest.raises(UsageError, match="broken image"):
            images.read(str(file))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is no image"),
        (b"hello", "is no image"),
        (b"\0\0\0\x20ftypheic", "is HEIC"),
        (b"\0\0\0\x20ftypavif", "is AVIF"),
        (b"II*\0", "is TIFF"),
        (b"%PDF-1.7", "is PDF"),
        (b"<svg>", "is SVG"),
        (b"RIFF\0\0\0\0WAVEfmt ", "is a broken image"),
        (png(0, 5), "0 x 5 pixels"),
        (png(1, 1) + bytes(LIMIT_BYTES), "more than 20,971,520 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_else_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "image"
    file.write_bytes(data)
    with pytest.raises(UsageError, match=says):
        images.read(str(file))
