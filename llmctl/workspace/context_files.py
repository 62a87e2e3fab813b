"""Files whose text stands before a prompt: plain text of any kind, and PDF and office documents by their libraries."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath

from msgspec import Struct

from llmctl.address import without_secrets
from llmctl.errors import ContextError, UsageError
from llmctl.printable import printable
from llmctl.workspace.given_file import opened

LIMIT_BYTES = 64 << 20  # more than any context takes
UNPACKED_LIMIT_BYTES = 512 << 20
LOOKED_AT_BYTES = 8192  # for a byte that no text has
NAME_CHARACTERS = 120
BYTE_ORDER_MARKS: Mapping[bytes, str] = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
EXTRA = 'pip install "llmctl[documents]"'


class ContextFile(Struct, frozen=True):
    """``name`` introduces the text to the model: the path as given if it is relative, else its last part."""

    name: str
    text: str


def read(path: str) -> ContextFile:
    """The text of a file. Raises UsageError for an address, a folder and what is no text; NotFoundError, AccessError
    and ResourceError where it can't be read."""
    data = content(path, LIMIT_BYTES, "-f")
    if len(data) > LIMIT_BYTES and b"\0" not in data[:LOOKED_AT_BYTES]:
        raise UsageError(f"{printable(path)} has more than {LIMIT_BYTES:,} bytes, which no context takes")
    kind = document_kind(path, data)
    text = _plain_text(path, data) if kind is None else _document_text(path, data, kind)
    return ContextFile(_name(path), text)


def before(files: Sequence[ContextFile], prompt: str) -> str:
    """``prompt`` behind the files, each introduced by its name."""
    introduced = [f'<file name="{file.name}">\n{file.text.strip()}\n</file>' for file in files]
    return "\n\n".join([*introduced, prompt])


def _name(path: str) -> str:
    parts = PurePath(path)
    name = parts.name if parts.is_absolute() or ".." in parts.parts else str(parts)
    return printable(name, NAME_CHARACTERS).replace('"', "'")


def content(path: str, limit_bytes: int, option: str) -> bytes:
    """The bytes of a file, one more than ``limit_bytes`` at most. ``option`` is what names files. Raises UsageError for
    an address and a folder; NotFoundError, AccessError and ResourceError."""
    if "://" in path:
        raise UsageError(
            f"{without_secrets(path)} is an address: llmctl fetches no context, since its server would learn of it",
            hint=f"curl -o FILE ADDRESS   then: llmctl run {option} FILE …",
        )
    with opened(path, option, hint=f"llmctl run {option} FILE {option} FILE …") as file:
        return file.read(limit_bytes + 1)


def _plain_text(path: str, data: bytes) -> str:
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if b"\0" in data[:LOOKED_AT_BYTES]:
            raise _binary(path, data.index(0)) from error
        at = f"byte 0x{data[error.start]:02x} at position {error.start:,}"
        raise UsageError(
            f"{printable(path)} is not UTF-8 text: {at}", hint="iconv -f LATIN1 -t UTF-8 FILE | llmctl run …"
        ) from error
    if "\0" in text:
        raise _binary(path, data.index(0))
    return text


def _binary(path: str, position: int) -> UsageError:
    return UsageError(
        f"{printable(path)} is not text: byte 0x00 at position {position:,}",
        hint="-f takes text, Markdown, source, PDF, .docx, .xlsx and .pptx",
    )


def document_kind(path: str, data: bytes) -> str | None:
    """What kind of document it is, by the endings that READERS has; None for plain text."""
    if data.startswith(b"%PDF-"):
        return ".pdf"
    suffix = PurePath(path).suffix.lower()
    return suffix if suffix in READERS and data.startswith(b"PK") else None


def _document_text(path: str, data: bytes, kind: str) -> str:
    try:
        require_bounded(data, kind)
        text = "\n\n".join(part for part in READERS[kind](io.BytesIO(data)) if part.strip())
    except ImportError as error:
        raise UsageError(
            f"{printable(path)}: text of a {kind} file is read by {error.name}, which is not installed", hint=EXTRA
        ) from error
    except ContextError as error:
        raise UsageError(f"{printable(path)} {error.message}") from error
    except Exception as error:  # what a broken document makes of its library: anything
        raise UsageError(f"{printable(path)} can't be read as a {kind} file: {printable(str(error))}") from error
    if not text:
        raise UsageError(f"{printable(path)} holds no text: what it shows may be pictures")
    return text


def require_bounded(data: bytes, kind: str) -> None:
    """Raises ContextError for a document that unpacks to too much."""
    if kind == ".pdf":
        return
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size_bytes = sum(member.file_size for member in archive.infolist())
    if size_bytes > UNPACKED_LIMIT_BYTES:
        raise ContextError(f"unpacks to {size_bytes:,} bytes, which no context takes")


def _pdf(file: io.BytesIO) -> Iterator[str]:
    import logging

    import pypdf

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    for page in pypdf.PdfReader(file).pages:
        yield page.extract_text()


def _docx(file: io.BytesIO) -> Iterator[str]:
    import docx
    from docx.table import Table

    for block in docx.Document(file).iter_inner_content():
        if isinstance(block, Table):
            yield "\n".join("\t".join(cell.text for cell in row.cells) for row in block.rows)
        else:
            yield block.text


def _xlsx(file: io.BytesIO) -> Iterator[str]:
    from openpyxl.reader.excel import load_workbook

    book = load_workbook(file, read_only=True, data_only=True)  # type: ignore[no-untyped-call]
    for sheet in book.worksheets:
        rows = ("\t".join("" if cell is None else str(cell) for cell in row) for row in sheet.values)
        yield "\n".join([sheet.title, *rows])


def _pptx(file: io.BytesIO) -> Iterator[str]:
    import pptx

    for slide in pptx.Presentation(file).slides:
        yield "\n".join(shape.text_frame.text for shape in slide.shapes if shape.has_text_frame)


READERS: Mapping[str, Callable[[io.BytesIO], Iterator[str]]] = {
    ".pdf": _pdf,
    ".docx": _docx,
    ".xlsx": _xlsx,
    ".pptx": _pptx,
}
