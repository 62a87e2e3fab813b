"""The text of a file as an index takes it: in sections, or why there is none."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path, PurePath

from msgspec import Struct

from llmctl.retrieval.text_index import Skipped
from llmctl.workspace import context_files, mail, markup

PAGES = (".html", ".htm", ".xhtml")
MAIL, MAILBOX = ".eml", ".mbox"
MOST_MAILBOX_BYTES = 8 << 30  # mail exports have gigabytes, and are read message by message
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # office documents of before 2007, and those with a password
ENCRYPTED = (b"-----BEGIN PGP MESSAGE-----", b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----", b"Salted__")
OTHER_ENCODING = "cp1252"  # of what is not UTF-8: texts of Western Europe


class FileText(Struct, frozen=True):
    """``is_utf8`` is false for a text that was read as CP1252 instead."""

    sections: Sequence[str]
    is_utf8: bool = True


class NoTextError(Exception):
    """There is no text to take from the file, for the reason ``why``."""

    def __init__(self, why: Skipped) -> None:
        super().__init__(str(why))
        self.why = why


def most_bytes(path: Path, limit_bytes: int) -> int:
    """How large the file may be."""
    return MOST_MAILBOX_BYTES if path.suffix.lower() == MAILBOX else limit_bytes


def is_mailbox(path: Path) -> bool:
    return path.suffix.lower() == MAILBOX


def text_of(path: Path, data: bytes) -> FileText:
    """The text of a file with the content ``data``. Raises NoTextError."""
    if not data.strip():
        raise NoTextError(Skipped.EMPTY)
    if data.startswith(ENCRYPTED):
        raise NoTextError(Skipped.ENCRYPTED)
    suffix = path.suffix.lower()
    if data.startswith(OLE):
        raise NoTextError(Skipped.ENCRYPTED if suffix in context_files.READERS else Skipped.BINARY)
    kind = context_files.document_kind(str(PurePath(path)), data)
    if kind is not None:
        return FileText(_document(data, kind))
    if suffix == MAIL:
        return FileText((_mail(data),))
    text, is_utf8 = _decoded(data)
    return FileText((markup.text_of(text) if suffix in PAGES else text,), is_utf8)


def _document(data: bytes, kind: str) -> Sequence[str]:
    try:
        context_files.require_bounded(data, kind)
        sections = [section for section in context_files.READERS[kind](io.BytesIO(data)) if section.strip()]
    except ImportError as error:
        raise NoTextError(Skipped.NEEDS_EXTRA) from error
    except Exception as error:  # what a broken document makes of its library: anything
        raise NoTextError(Skipped.ENCRYPTED if _is_about_keys(error) else Skipped.BROKEN) from error
    if not sections:
        raise NoTextError(Skipped.EMPTY)
    return sections


def _is_about_keys(error: Exception) -> bool:
    words = f"{type(error).__name__} {error}".lower()
    return "decrypt" in words or "encrypt" in words or "password" in words


def _mail(data: bytes) -> str:
    try:
        return mail.message_text(data)
    except mail.MALFORMED as error:
        raise NoTextError(Skipped.BROKEN) from error


def _decoded(data: bytes) -> tuple[str, bool]:
    marks = context_files.BYTE_ORDER_MARKS
    encoding = next((name for mark, name in marks.items() if data.startswith(mark)), "utf-8")
    try:
        text, is_utf8 = data.decode(encoding), True
    except UnicodeDecodeError as error:
        if b"\0" in data:
            raise NoTextError(Skipped.BINARY) from error
        text, is_utf8 = data.decode(OTHER_ENCODING, "replace"), False
    if "\0" in text or (not is_utf8 and not _is_text(text)):
        raise NoTextError(Skipped.BINARY)
    return text, is_utf8


def _is_text(text: str) -> bool:
    """Whether most of it is letters, digits and blanks: compressed bytes are not, whatever the encoding."""
    looked_at = text[: context_files.LOOKED_AT_BYTES]
    return sum(character.isalnum() or character.isspace() for character in looked_at) > len(looked_at) * 0.7
