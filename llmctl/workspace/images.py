"""Images that go with a prompt: what kind they are, how large, and who can read them. Nothing here decodes one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llmctl.errors import UsageError
from llmctl.files import picture
from llmctl.printable import printable
from llmctl.shell import command
from llmctl.types.request import ImagePart
from llmctl.workspace import context_files

LIMIT_BYTES = 20 << 20
MOST_PIXELS = 64_000_000
OTHER_KINDS: Mapping[bytes, str] = {
    b"ftyphei": "HEIC",
    b"ftypmif1": "HEIC",
    b"ftypavif": "AVIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
    b"%PDF": "PDF",
    b"<svg": "SVG",
}


def read(path: str) -> ImagePart:
    """An image file as it is. Raises UsageError for what is no PNG, JPEG, GIF or WebP, is cut off before its size, or
    is too large, and what ``context_files.content`` raises."""
    data = context_files.content(path, LIMIT_BYTES, "--image")
    if len(data) > LIMIT_BYTES:
        raise UsageError(f"{printable(path)} has more than {LIMIT_BYTES:,} bytes, which is the most that is sent")
    if (media_type := picture.media_type(data)) is not None:
        _require_bounded(path, data)
        return ImagePart(data, media_type)
    kind = _other_kind(data)
    raise UsageError(
        f"{printable(path)} is {kind or 'no image'}: PNG, JPEG, GIF and WebP can be sent",
        hint=None if kind is None else command("magick", path, Path(path).stem + ".png"),
    )


def _require_bounded(path: str, data: bytes) -> None:
    try:
        width, height = picture.size(data)
    except ValueError as error:
        raise UsageError(f"{printable(path)} is a broken image: it ends before its width and height") from error
    if width * height > MOST_PIXELS:
        pixels = f"{width:,} x {height:,} pixels"
        raise UsageError(f"{printable(path)} has {pixels}, {MOST_PIXELS:,} in all are the most that is sent")
    if not width * height:
        raise UsageError(f"{printable(path)} is a broken image: {width:,} x {height:,} pixels")


def _other_kind(data: bytes) -> str | None:
    """What a file is that can be made an image of the kinds that can be sent; None for anything else."""
    start = data[:16].lstrip()
    return next((name for magic, name in OTHER_KINDS.items() if magic in start), None)
