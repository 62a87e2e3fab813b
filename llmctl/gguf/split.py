"""A model's file in parts, as llama-gguf-split makes them, without writing any: new headers in front of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from struct import pack, unpack

from llmctl.errors import UnsupportedFileError
from llmctl.gguf.header import DEFAULT_ALIGNMENT
from llmctl.gguf.pieces import Piece, Span, whole_file
from llmctl.gguf.quant import WEIGHT_TYPES
from llmctl.gguf.shards import read_model
from llmctl.types.header import Header, Tensor

MAGIC = b"GGUF"
FIXED_BYTES = 24  # magic number, version, numbers of tensors and keys
U16, U32, I32 = 2, 4, 5  # kinds of metadata values
TYPE_IDS = {quant.name: number for number, quant in WEIGHT_TYPES.items()}


def pieces(path: Path, part_bytes: int) -> tuple[Piece, ...]:
    """The model at ``path`` in files of at most ``part_bytes`` of tensors each: as they are where all are that small.

    Raises what ``read_model`` raises, OSError, and UnsupportedFileError for what can't be parted so: a tensor that is
    larger, or a model of several files of which one is larger.
    """
    files, header = read_model(path)
    wholes = tuple(whole_file(file) for file in files)
    if all(piece.size_bytes <= part_bytes for piece in wholes):
        return wholes
    if len(files) > 1:
        raise UnsupportedFileError(f"{path} is split into parts of more than {part_bytes:,} bytes")
    parts = _parted(path, header.tensors, part_bytes)
    return tuple(_piece(path, header, parts, number) for number in range(len(parts)))


def _parted(path: Path, tensors: Sequence[Tensor], part_bytes: int) -> list[list[Tensor]]:
    parts: list[list[Tensor]] = [[]]
    for tensor in tensors:
        if tensor.nbytes > part_bytes:
            raise UnsupportedFileError(
                f"{path} has a tensor of {tensor.nbytes:,} bytes, a part has {part_bytes:,} at most"
            )
        if parts[-1] and tensor.offset + tensor.nbytes - parts[-1][0].offset > part_bytes:
            parts.append([])
        parts[-1].append(tensor)
    return parts


def _piece(path: Path, header: Header, parts: Sequence[Sequence[Tensor]], number: int) -> Piece:
    tensors, first = parts[number], parts[number][0].offset
    alignment = header.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    assert isinstance(alignment, int), "the header's reader has checked it"
    count, keys = _metadata(path, header) if number == 0 else (1, _key("general.alignment", U32, pack("<I", alignment)))
    keys += _key("split.no", U16, pack("<H", number)) + _key("split.count", U16, pack("<H", len(parts)))
    keys += _key("split.tensors.count", I32, pack("<i", len(header.tensors)))
    head = MAGIC + pack("<IQQ", header.version, len(tensors), count + 3) + keys + _infos(tensors, first)
    size = tensors[-1].offset + tensors[-1].nbytes - first
    return Piece(head + bytes(-len(head) % alignment), (Span(path, header.data_offset + first, size),))


def _metadata(path: Path, header: Header) -> tuple[int, bytes]:
    """How many keys the file has, and their bytes: what lies before its list of tensors."""
    with path.open("rb") as stream:
        start = stream.read(header.data_offset)
    end = start.rfind(_infos(header.tensors, 0))
    if end < FIXED_BYTES:
        raise UnsupportedFileError(f"{path} has names of tensors that aren't UTF-8")
    return unpack("<Q", start[16:FIXED_BYTES])[0], start[FIXED_BYTES:end]


def _infos(tensors: Iterable[Tensor], first: int) -> bytes:
    return b"".join(
        _text(tensor.name)
        + pack(
            f"<I{len(tensor.shape)}QIQ", len(tensor.shape), *tensor.shape, TYPE_IDS[tensor.type], tensor.offset - first
        )
        for tensor in tensors
    )


def _key(name: str, kind: int, value: bytes) -> bytes:
    return _text(name) + pack("<I", kind) + value


def _text(text: str) -> bytes:
    encoded = text.encode()
    return pack("<Q", len(encoded)) + encoded
