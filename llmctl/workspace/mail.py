"""The texts of mails: one message (.eml) or many (mbox)."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from contextlib import suppress
from email.message import EmailMessage
from typing import BinaryIO

from llmctl.workspace import markup

SHOWN_HEADERS = ("Subject", "From", "To", "Date")
SEPARATOR = b"From "
MOST_MESSAGE_BYTES = 16 << 20  # the rest of one is attachments, most likely


MALFORMED = (ValueError, LookupError, AttributeError, TypeError, RecursionError)
"""What the library makes of a message that is none."""


def message_text(data: bytes) -> str:
    """Who wrote to whom and when about what, then the text; attachments are left out. Raises one of MALFORMED."""
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage), "the policy makes them"
    heads = [f"{name}: {_header(message, name)}" for name in SHOWN_HEADERS if message.get(name)]
    return "\n".join([*heads, "", _body(message)])


def message_texts(file: BinaryIO) -> Iterator[str]:
    """Those of an mbox, one after the other; a malformed one is left out."""
    for message in _messages(file):
        with suppress(*MALFORMED):
            yield message_text(message)


def _messages(file: BinaryIO) -> Iterator[bytes]:
    lines: list[bytes] = []
    size = 0
    is_after_blank = True
    while line := file.readline(MOST_MESSAGE_BYTES):
        if is_after_blank and line.startswith(SEPARATOR):
            if lines:
                yield b"".join(lines)
            lines, size = [], 0
        elif size < MOST_MESSAGE_BYTES:
            lines.append(line[1:] if line.startswith(b">From ") else line)
            size += len(line)
        is_after_blank = line in (b"\n", b"\r\n")
    if lines:
        yield b"".join(lines)


def _header(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message[name]).split())
    except MALFORMED:
        return ""


def _body(message: EmailMessage) -> str:
    if message.get_content_type() == "multipart/encrypted":
        return ""
    part = message.get_body(("plain", "html"))
    if part is None:
        return ""
    try:
        text = part.get_content()
    except (LookupError, ValueError, KeyError):  # a character set that there isn't
        payload = part.get_payload(decode=True)
        text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
    if not isinstance(text, str):
        return ""
    return markup.text_of(text) if part.get_content_type() == "text/html" else text
