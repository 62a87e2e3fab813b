"""Reads the header of a GGUF file: its metadata and the table of its tensors.

The layout is the GGUF specification's (docs/gguf.md in ggml-org/ggml); where llama.cpp is stricter (ggml/src/gguf.cpp:
no arrays of arrays, unique names, tensors stored one after another in the order of their table), so is this reader,
since a file that the engine refuses is of no use. The file is not trusted: every count and length is checked against
a limit before anything is read or allocated for it. The limits are far beyond any model, so that what llama.cpp loads
is read as well. Vocabularies are skipped, not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from errno import ELOOP, ENAMETOOLONG, ENOTDIR
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from struct import Struct

from llmctl.errors import AccessError, IntegrityError, NotFoundError, ResourceError, UnsupportedFileError
from llmctl.gguf.cursor import CUT_OFF_HINT, Cursor, Stream
from llmctl.gguf.formats import EXAMINED_BYTES, MAGIC, not_gguf
from llmctl.gguf.quant import WEIGHT_TYPES, WITHDRAWN, WeightType
from llmctl.types.header import Header, Scalar, Tensor

VERSIONS = (2, 3)  # little-endian; 3 differs from 2 only in allowing big-endian files, which are refused here
MAX_VERSION = 99  # a larger number is damage

# The largest header met so far has 13 MB, 60 keys, 1,100 tensors and 0.8 million strings. These leave room.
MAX_HEADER_BYTES = 1 << 30
MAX_KEYS = 1 << 17  # about 0.3 s, and 50 MB of memory
MAX_TENSORS = 1 << 16
MAX_KEY_BYTES = 1 << 16  # the specification's
MAX_TENSOR_NAME_BYTES = 63  # GGML_MAX_NAME less the null byte that ends it
MAX_ARRAY_ELEMENTS = 1 << 30  # llama.cpp's (GGUF_MAX_ARRAY_ELEMENTS); of numbers, which are passed over at no cost
MAX_STRINGS = 1 << 24  # in all arrays together: about 1.2 s to pass over
MAX_KEPT_STRING_BYTES = 1 << 20  # longer ones (a whole tokenizer.json) are passed over like arrays
MAX_KEPT_ELEMENTS = 1024  # of a numeric array: per-layer figures; llama.cpp knows at most 512 layers
MAX_KEPT_BYTES = 16 << 20  # of values kept, as stored in the file; what is over it is passed over, too
MAX_KEYS_BYTES = 16 << 20  # of all keys together
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
MAX_ELEMENTS = 1 << 50
MAX_ALIGNMENT = 1 << 24  # llama.cpp takes every power of two; padding of that length is written where headers are kept
DEFAULT_ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT
MAX_TYPES = 1024  # weight types of all of ggml's descendants are numbered below; a larger number is damage
SHOWN_CHARACTERS = 60  # of a key, in a message

NO_FILE = (ELOOP, ENAMETOOLONG, ENOTDIR)
"""Errors of a path that leads to no file."""

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
MODEL = "model"  # general.type of what has an architecture; other types of file may have none

Value = Scalar | tuple[int | float | bool, ...]


def read_file(path: Path, *, whole: bool = True) -> Header:
    """The header of the file at ``path``.

    ``whole=False`` accepts a file that holds only its header, which is all that planning needs.
    Raises NotFoundError, AccessError or ResourceError if the file can't be read, IntegrityError if it isn't sound,
    UnsupportedFileError if it is sound and no GGUF file that can be read; every message begins with the path.
    """
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode):
            raise NotFoundError(f"{path} is not a file")  # opening a pipe would wait for its other end
        header = _read_once(path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
        if whole:
            _require_weights(header, status.st_size)
        return header
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} does not exist") from error
    except PermissionError as error:
        raise AccessError(f"{path} may not be read by this user") from error
    except ValueError as error:
        raise NotFoundError(f"{str(path)!r} can't be the name of a file") from error
    except OSError as error:
        kind = NotFoundError if error.errno in NO_FILE else ResourceError
        raise kind(f"{path} could not be read: {error.strerror or error}") from error
    except (IntegrityError, UnsupportedFileError) as error:
        raise type(error)(f"{path} {error.message}", hint=error.hint) from error


@lru_cache(maxsize=8)
def _read_once(path: Path, stamp: tuple[int, int, int, int]) -> Header:
    """A command asks three times for its model's header, and a large vocabulary takes 60 ms. ``stamp``: device, inode,
    size and time of change of the file; another one is read anew."""
    with path.open("rb", buffering=0) as stream:
        return _parsed(Cursor(stream, size_bytes=stamp[2], limit_bytes=MAX_HEADER_BYTES))


def read_header(stream: Stream, *, size_bytes: int | None, limit_bytes: int = MAX_HEADER_BYTES) -> Header:
    """The header that begins where ``stream`` stands, of at most ``limit_bytes``. ``stream`` must be able to seek.

    ``size_bytes`` is the length of the whole file, or None if it isn't known or the weights aren't there yet; where
    known, every tensor must lie inside it (the padding after the last one may be missing). Raises IntegrityError or
    UnsupportedFileError with a message that lacks its subject ("is cut off: ..."), for the caller to put the file's
    name before.
    """
    header = _parsed(Cursor(stream, size_bytes=size_bytes, limit_bytes=limit_bytes))
    if size_bytes is not None:
        _require_weights(header, size_bytes)
    return header


def _parsed(cursor: Cursor) -> Header:
    """The header that begins at ``cursor``, whether or not its weights are there."""
    version = _version(cursor)
    n_tensors = _at_most(MAX_TENSORS, cursor.u64("the number of tensors"), "tensors")
    n_keys = _at_most(MAX_KEYS, cursor.u64("the number of metadata keys"), "metadata keys")
    metadata = _Metadata(cursor, n_keys)
    alignment = _alignment(metadata.values.get("general.alignment", DEFAULT_ALIGNMENT))
    tensors = _tensors(cursor, n_tensors, alignment)
    return Header(
        version=version,
        architecture=_architecture(metadata.values),
        metadata=metadata.values,
        array_lengths=metadata.lengths,
        array_spans=metadata.spans,
        tensors=tensors,
        data_offset=_padded(cursor.position, alignment),
    )


def _require_weights(header: Header, size_bytes: int) -> None:
    """Raises IntegrityError for a file of ``size_bytes`` that ends before its last tensor does."""
    promised_bytes = header.data_offset + header.tensor_bytes
    if header.tensors and promised_bytes > size_bytes:
        raise IntegrityError(
            f"is cut off: its header promises {promised_bytes} bytes, the file has {size_bytes}", hint=CUT_OFF_HINT
        )


def _version(cursor: Cursor) -> int:
    start = cursor.peek(EXAMINED_BYTES)
    if start[:4] != MAGIC:
        raise not_gguf(start)
    cursor.skip(4, "the magic number")
    version = cursor.u32("the version")
    if version & 0xFFFF == 0 and version:  # a small number, its bytes the other way round
        raise UnsupportedFileError("is a big-endian GGUF file, which llama.cpp can't read on this machine")
    if not 1 <= version <= MAX_VERSION:
        raise _unsound(f"its version is {version}")
    if version not in VERSIONS:
        raise UnsupportedFileError(
            f"is GGUF version {version}; versions {VERSIONS[0]} and {VERSIONS[1]} can be read",
            hint="convert the model again with today's llama.cpp" if version < VERSIONS[0] else None,
        )
    return version


class _Metadata:
    """Reads the metadata: ``values`` by key; of arrays and strings that were skipped the ``lengths``, and the ``spans``
    of bytes that key and value take in the header."""

    def __init__(self, cursor: Cursor, n_keys: int) -> None:
        self.values: dict[str, Value] = {}
        self.lengths: dict[str, int] = {}
        self.spans: dict[str, tuple[int, int]] = {}
        self._cursor = cursor
        self._strings_left = MAX_STRINGS
        self._kept_left = MAX_KEPT_BYTES
        keys_left = MAX_KEYS_BYTES
        for index in range(n_keys):
            begin = cursor.position
            key = _name(cursor, MAX_KEY_BYTES, f"key {index + 1} of {n_keys}")
            keys_left -= cursor.position - begin
            if keys_left < 0:
                raise _unsound(f"its keys have more than {MAX_KEYS_BYTES} bytes, at key {index + 1} of {n_keys}")
            if key in self.values or key in self.lengths:
                raise _unsound(f"key {_shown(key)} occurs twice")
            self._read(key, begin)

    def _read(self, key: str, begin: int) -> None:
        cursor, what = self._cursor, f"the value of {_shown(key)}"
        kind = cursor.u32(what)
        if kind == STRING:
            length = cursor.u64(what)
            if self._is_kept(length, MAX_KEPT_STRING_BYTES):
                self.values[key] = cursor.take(length, what).decode("utf-8", errors="replace")
                return
            cursor.skip(length, what)
        elif kind == ARRAY:
            element, length = cursor.u32(what), cursor.u64(what)
            if element == STRING:
                self._skip_strings(length, key, what)
            else:
                number = _number(element, what)
                _at_most(MAX_ARRAY_ELEMENTS, length, f"elements in {_shown(key)}")
                if self._is_kept(length * number.size, MAX_KEPT_ELEMENTS * number.size):
                    array = Struct(f"<{length}{number.format[-1]}")
                    self.values[key] = array.unpack(cursor.take(array.size, what))
                    return
                cursor.skip(length * number.size, what)
        else:
            self.values[key] = cursor.number(_number(kind, what), what)
            return
        self.lengths[key] = length
        self.spans[key] = (begin, cursor.position)

    def _is_kept(self, size_bytes: int, limit_bytes: int) -> bool:
        """Whether a value is short enough, and there is room left for it among what is kept."""
        kept = size_bytes <= min(limit_bytes, self._kept_left)
        self._kept_left -= size_bytes if kept else 0
        return kept

    def _skip_strings(self, length: int, key: str, what: str) -> None:
        self._strings_left -= length
        if self._strings_left < 0:
            raise _unsound(f"its arrays hold more than {MAX_STRINGS} strings; {_shown(key)} alone has {length}")
        self._cursor.skip_strings(length, what)


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
        quant = _quant(type_id, what)
        if shape[0] % quant.block_length:
            raise _unsound(f"{what} has rows of {shape[0]}, not a multiple of {quant.name}'s {quant.block_length}")
        offset = cursor.u64(what)
        if offset != expected:
            raise _unsound(f"{what} begins at byte {offset} of the weights, expected at {expected}")
        nbytes = elements // quant.block_length * quant.block_bytes
        tensors[name] = Tensor(name, shape, quant.name, offset, nbytes)
        expected = _padded(offset + nbytes, alignment)
    return tuple(tensors.values())


def _quant(type_id: int, what: str) -> WeightType:
    if type_id in WEIGHT_TYPES:
        return WEIGHT_TYPES[type_id]
    if type_id >= MAX_TYPES:
        raise _unsound(f"{what} has weight type {type_id}, which is none of ggml's {len(WEIGHT_TYPES)}")
    withdrawn = f" ({WITHDRAWN[type_id]}, withdrawn)" if type_id in WITHDRAWN else ""
    raise UnsupportedFileError(
        f"can't be read by llama.cpp: {what} has weight type {type_id}{withdrawn}, "
        f"which is none of ggml's {len(WEIGHT_TYPES)}",
        hint="choose another quantization of this model",
    )


def _name(cursor: Cursor, longest: int, what: str) -> str:
    length = cursor.u64(what)
    if not 1 <= length <= longest:
        raise _unsound(f"{what} has {length} bytes, 1 to {longest} are possible")
    return cursor.take(length, what).decode("utf-8", errors="backslashreplace")  # what differs must not become the same


def _shown(key: str) -> str:
    """A key in a message."""
    return repr(key if len(key) <= SHOWN_CHARACTERS else f"{key[:SHOWN_CHARACTERS]}…")


def _number(kind: int, what: str) -> Struct:
    try:
        return NUMBERS[kind]
    except KeyError:
        raise _unsound(f"{what} is of kind {kind}, which can't be read here") from None


def _alignment(value: Value) -> int:
    if type(value) is int and 1 <= value <= MAX_ALIGNMENT and value & (value - 1) == 0:
        return value
    raise _unsound(f"its alignment is {str(value)[:40]!r}, not a power of two from 1 to {MAX_ALIGNMENT}")


def _architecture(metadata: Mapping[str, Value]) -> str:
    value, part = metadata.get("general.architecture"), metadata.get("split.no")
    if value is None and isinstance(part, int) and part > 0:
        return ""  # llama-gguf-split writes the model's metadata into the first part only
    if value is None and metadata.get("general.type", MODEL) != MODEL:
        return ""  # an importance matrix, for instance
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
