"""Reads what a GGUF file says of itself before its weights begin.

The layout is the GGUF specification's (docs/gguf.md in ggml-org/ggml); where llama.cpp is stricter (ggml/src/gguf.cpp:
no arrays of arrays, unique names, tensors stored one after another in the order of their table), so is this reader,
since a file that the engine refuses is of no use. The file is not trusted: every count and length is held against a
limit before anything is read or allocated for it. Vocabularies are passed over, not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from stat import S_ISREG
from struct import Struct

from llmctl.errors import AccessError, IntegrityError, NotFoundError, ResourceError
from llmctl.gguf.cursor import CUT_OFF_HINT, Cursor, Stream
from llmctl.gguf.quant import QUANTS, WITHDRAWN
from llmctl.types.header import Header, Scalar, Tensor

VERSIONS = (2, 3)  # little-endian; 3 differs from 2 only in allowing big-endian files, which are refused here

# The largest header met so far has 13 MB, 60 keys, 1,100 tensors and 0.8 million strings. These leave room.
MAX_HEADER_BYTES = 64 << 20  # also the most that travels of a file that is elsewhere
MAX_KEYS = 2048
MAX_TENSORS = 1 << 16
MAX_KEY_BYTES = 1024
MAX_TENSOR_NAME_BYTES = 64  # the specification's; GGML_MAX_NAME
MAX_ARRAY_ELEMENTS = 1 << 26  # of numbers, which are passed over at no cost
MAX_STRINGS = 4 << 20  # in all arrays together: about 0.3 s to pass over
MAX_KEPT_STRING_BYTES = 1 << 20  # longer ones (a whole tokenizer.json) are passed over like arrays
MAX_KEPT_ELEMENTS = 1024  # of a numeric array: per-layer figures; llama.cpp knows at most 512 layers
MAX_KEPT_BYTES = 16 << 20  # of values kept, as stored in the file
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
MAX_ELEMENTS = 1 << 50
MIN_ALIGNMENT, MAX_ALIGNMENT = 8, 1 << 20
DEFAULT_ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT

MAGIC = b"GGUF"
OLDER_MAGICS = (b"lmgg", b"fmgg", b"tjgg", b"algg")  # ggml, ggmf, ggjt, ggla, as they stand in a file
LFS_POINTER = b"version https://git-lfs"

STRING, ARRAY = 8, 9
NUMBERS = {
    0: Struct("<B"),
    1: Struct("<b"),
    2: Struct("<H"),
    3: Struct("<h"),
    4: Struct("<I"),
    5: Struct("<i"),
    6: Struct("<f"),
    7: Struct("<?"),
    10: Struct("<Q"),
    11: Struct("<q"),
    12: Struct("<d"),
}
"""enum gguf_metadata_value_type: the kinds of fixed size."""

ARCHITECTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

Value = Scalar | tuple[int | float | bool, ...]


def read_file(path: Path, *, whole: bool = True) -> Header:
    """The header of the file at ``path``.

    ``whole=False`` accepts a file that holds only its header, which is all that planning needs.
    Raises NotFoundError, AccessError or ResourceError if the file can't be read, IntegrityError if it isn't sound;
    every message begins with the path.
    """
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode):
            raise NotFoundError(f"{path} is not a file")  # opening a pipe would wait for its other end
        with path.open("rb", buffering=0) as stream:
            return read_header(stream, size_bytes=status.st_size if whole else None)
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} does not exist") from error
    except PermissionError as error:
        raise AccessError(f"{path} may not be read by this user") from error
    except OSError as error:
        raise ResourceError(f"{path} could not be read: {error.strerror or error}") from error
    except IntegrityError as error:
        raise IntegrityError(f"{path} {error.message}", hint=error.hint) from error


def read_header(stream: Stream, *, size_bytes: int | None) -> Header:
    """The header that begins where ``stream`` stands. ``stream`` must be able to seek.

    ``size_bytes`` is the length of the whole file, or None if it isn't known or the weights aren't there yet; where
    known, every tensor must lie inside it (the padding after the last one may be missing). Raises IntegrityError with
    a message that lacks its subject ("is cut off: ..."), for the caller to put the file's name before.
    """
    cursor = Cursor(stream, size_bytes=size_bytes, limit_bytes=MAX_HEADER_BYTES)
    version = _version(cursor)
    n_tensors = _at_most(MAX_TENSORS, cursor.u64("the number of tensors"), "tensors")
    n_keys = _at_most(MAX_KEYS, cursor.u64("the number of metadata keys"), "metadata keys")
    metadata, array_lengths = _metadata(cursor, n_keys)
    alignment = _alignment(metadata.get("general.alignment", DEFAULT_ALIGNMENT))
    tensors = _tensors(cursor, n_tensors, alignment)
    header = Header(
        version=version,
        architecture=_architecture(metadata),
        metadata=metadata,
        array_lengths=array_lengths,
        tensors=tensors,
        data_offset=_padded(cursor.position, alignment),
    )
    promised_bytes = header.data_offset + header.tensor_bytes
    if tensors and size_bytes is not None and promised_bytes > size_bytes:
        raise IntegrityError(
            f"is cut off: its header promises {promised_bytes} bytes, the file has {size_bytes}", hint=CUT_OFF_HINT
        )
    return header


def _version(cursor: Cursor) -> int:
    start = cursor.peek(64)
    if start[:4] != MAGIC:
        raise _not_gguf(start)
    cursor.skip(4, "the magic number")
    version = cursor.u32("the version")
    if version & 0xFFFF == 0 and version:  # a small number, its bytes the other way round
        raise IntegrityError("is a big-endian GGUF file, which llama.cpp can't read on this machine")
    if version not in VERSIONS:
        raise IntegrityError(f"is GGUF version {version}; versions {VERSIONS[0]} and {VERSIONS[1]} can be read")
    return version


def _not_gguf(start: bytes) -> IntegrityError:
    if not start:
        return IntegrityError("is empty, not a GGUF file", hint=CUT_OFF_HINT)
    if start.startswith(LFS_POINTER):
        return IntegrityError("is a Git LFS pointer, not the model itself", hint="git lfs pull")
    if start[:4] in OLDER_MAGICS:
        return IntegrityError("is in the ggml format that GGUF replaced in 2023; llama.cpp no longer reads it")
    text = start.decode("utf-8", errors="ignore")
    if len(text.encode()) >= len(start) - 3 and all(c.isprintable() or c.isspace() for c in text):
        begins = (text.strip().splitlines() or [""])[0][:40]
        return IntegrityError(f"is a text file, not a GGUF file: it begins with {begins!r}")
    return IntegrityError(f"is not a GGUF file: it begins with bytes {start[:4].hex(' ')}, not {MAGIC.hex(' ')}")


def _metadata(cursor: Cursor, n_keys: int) -> tuple[dict[str, Value], dict[str, int]]:
    """Values worth keeping, and the lengths of what was passed over."""
    metadata: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    strings_left = MAX_STRINGS
    kept_bytes = 0
    for index in range(n_keys):
        key = _name(cursor, MAX_KEY_BYTES, f"key {index + 1} of {n_keys}")
        if key in metadata or key in lengths:
            raise _unsound(f"key {key!r} occurs twice")
        what = f"the value of {key!r}"
        begin = cursor.position
        kind = cursor.u32(what)
        if kind == STRING:
            length = cursor.u64(what)
            if length > MAX_KEPT_STRING_BYTES:
                cursor.skip(length, what)
                lengths[key] = length
                continue
            metadata[key] = cursor.take(length, what).decode("utf-8", errors="replace")
        elif kind == ARRAY:
            element = cursor.u32(what)
            length = cursor.u64(what)
            if element == STRING:
                strings_left -= length
                if strings_left < 0:
                    raise _unsound(f"its arrays hold more than {MAX_STRINGS} strings; {key!r} alone has {length}")
                cursor.skip_strings(length, what)
                lengths[key] = length
                continue
            number = _number(element, what)
            _at_most(MAX_ARRAY_ELEMENTS, length, f"elements in {key!r}")
            if length > MAX_KEPT_ELEMENTS:
                cursor.skip(length * number.size, what)
                lengths[key] = length
                continue
            metadata[key] = Struct(f"<{length}{number.format[-1]}").unpack(cursor.take(length * number.size, what))
        else:
            metadata[key] = cursor.number(_number(kind, what), what)
        kept_bytes += cursor.position - begin
        if kept_bytes > MAX_KEPT_BYTES:
            raise _unsound(f"its metadata has more than {MAX_KEPT_BYTES} bytes besides vocabularies, at {key!r}")
    return metadata, lengths


def _tensors(cursor: Cursor, n_tensors: int, alignment: int) -> tuple[Tensor, ...]:
    tensors: dict[str, Tensor] = {}
    expected = 0
    for index in range(n_tensors):
        name = _name(cursor, MAX_TENSOR_NAME_BYTES, f"the name of tensor {index + 1} of {n_tensors}")
        what = f"tensor {name!r}"
        if name in tensors:
            raise _unsound(f"{what} occurs twice")
        n_dimensions = cursor.u32(what)
        if not 1 <= n_dimensions <= MAX_DIMENSIONS:
            raise _unsound(f"{what} has {n_dimensions} dimensions, 1 to {MAX_DIMENSIONS} are possible")
        shape = tuple(cursor.u64(what) for _ in range(n_dimensions))
        elements = 1
        for size in shape:
            elements *= size
        if not 1 <= elements <= MAX_ELEMENTS:
            raise _unsound(f"{what} of shape {shape} has {elements} elements, 1 to {MAX_ELEMENTS} are possible")
        type_id = cursor.u32(what)
        quant = QUANTS.get(type_id)
        if quant is None:
            withdrawn = f" ({WITHDRAWN[type_id]}, withdrawn)" if type_id in WITHDRAWN else ""
            raise _unsound(f"{what} has weight type {type_id}{withdrawn}, which is none of ggml's {len(QUANTS)}")
        if shape[0] % quant.block_length:
            raise _unsound(f"{what} has rows of {shape[0]}, not a multiple of {quant.name}'s {quant.block_length}")
        offset = cursor.u64(what)
        if offset != expected:
            raise _unsound(f"{what} begins at byte {offset} of the weights, expected at {expected}")
        nbytes = elements // quant.block_length * quant.block_bytes
        tensors[name] = Tensor(name, shape, quant.name, offset, nbytes)
        expected = _padded(offset + nbytes, alignment)
    return tuple(tensors.values())


def _name(cursor: Cursor, longest: int, what: str) -> str:
    length = cursor.u64(what)
    if not 1 <= length <= longest:
        raise _unsound(f"{what} has {length} bytes, 1 to {longest} are possible")
    try:
        return cursor.take(length, what).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _unsound(f"{what} is not text (byte {error.start} of {length})") from error


def _number(kind: int, what: str) -> Struct:
    try:
        return NUMBERS[kind]
    except KeyError:
        raise _unsound(f"{what} is of kind {kind}, which can't be read here") from None


def _alignment(value: Value) -> int:
    if type(value) is int and MIN_ALIGNMENT <= value <= MAX_ALIGNMENT and value & (value - 1) == 0:
        return value
    raise _unsound(f"its alignment is {str(value)[:40]!r}, not a power of two from {MIN_ALIGNMENT} to {MAX_ALIGNMENT}")


def _architecture(metadata: Mapping[str, Value]) -> str:
    value, part = metadata.get("general.architecture"), metadata.get("split.no")
    if value is None and isinstance(part, int) and part > 0:
        return ""  # llama-gguf-split writes the model's metadata into the first part only
    if isinstance(value, str) and ARCHITECTURE.fullmatch(value):
        return value
    raise _unsound(f"its general.architecture is {str(value)[:40]!r}, not the name of one")


def _at_most(limit: int, count: int, what: str) -> int:
    if count > limit:
        raise _unsound(f"it claims {count} {what}, at most {limit} are read")
    return count


def _padded(size: int, alignment: int) -> int:
    return (size + alignment - 1) // alignment * alignment


def _unsound(what: str) -> IntegrityError:
    return IntegrityError(f"is not a sound GGUF file: {what}")
