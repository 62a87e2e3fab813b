"""Pictures in a request: read out of ``data:`` addresses, bounded in bytes and pixels. Nothing is ever fetched."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from llmctl.engine.llama_cpp.refused import invalid
from llmctl.files import picture

MOST_PICTURES = 16
LIMIT_BYTES = 20 << 20
MOST_PIXELS = 25_000_000  # of all pictures of a request, three bytes each, while they are made smaller
MEDIA_TYPES = ("image/png", "image/jpeg", "image/gif")
"""What llama.cpp decodes."""
MARKER = f"<__picture_{secrets.token_hex(8)}__>"
"""Stands for a picture in a prompt until it is tokenized. Nobody outside this process can know it."""
DATA = re.compile(r"data:[a-z0-9.+/-]{0,64};base64,", re.IGNORECASE)


class Picture(Struct, frozen=True):
    """A picture's file; ``name`` is the field that it was in."""

    name: str
    data: bytes
    pixels: int


def is_picture(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "image_url"


def pictures_of(messages: list[Mapping[str, Any]]) -> tuple[Picture, ...]:
    """In the order of their markers. Raises RefusedError, which names the field."""
    pictures = tuple(_pictures(messages))
    if len(pictures) > MOST_PICTURES:
        raise invalid(f"messages: {len(pictures):,} images, at most {MOST_PICTURES} are possible")
    if (pixels := sum(each.pixels for each in pictures)) > MOST_PIXELS:
        raise invalid(f"messages: the images have {pixels:,} pixels in all, {MOST_PIXELS:,} are the most that is read")
    return pictures


def _pictures(messages: list[Mapping[str, Any]]) -> Iterator[Picture]:
    for at, message in enumerate(messages):
        content = message.get("content")
        for number, part in enumerate(content if isinstance(content, list) else ()):
            if is_picture(part):
                yield _picture(part, f"messages[{at}].content[{number}]")


def _picture(part: Mapping[str, Any], name: str) -> Picture:
    about = part.get("image_url")
    address = about.get("url") if isinstance(about, dict) else about
    match = DATA.match(address) if isinstance(address, str) else None
    if match is None or not isinstance(address, str):
        raise invalid(f"{name}.image_url.url must be a data: address in base64, this engine fetches nothing")
    if len(address) - match.end() > LIMIT_BYTES * 4 // 3 + 4:
        raise invalid(f"{name} is an image of more than {LIMIT_BYTES:,} bytes, the most that is read")
    try:
        data = base64.b64decode(address[match.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"{name}.image_url.url is not base64") from error
    return Picture(name, data, _pixels(data, name))


def _pixels(data: bytes, name: str) -> int:
    """How many there are. Raises RefusedError for too many, and for what is no picture."""
    if picture.media_type(data) not in MEDIA_TYPES:
        raise invalid(f"{name} is no PNG, JPEG or GIF, which are all that this engine reads")
    try:
        width, height = picture.size(data)
    except ValueError as error:
        raise invalid(f"{name} is a broken image: {error}") from error
    if not 0 < width * height <= MOST_PIXELS:
        raise invalid(f"{name} has {width:,} x {height:,} pixels, {MOST_PIXELS:,} in all are the most that is read")
    return width * height
