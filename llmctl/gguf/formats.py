"""Tells what a file is that isn't GGUF, by its first bytes: damaged, or a sound file in another format."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Mapping

from llmctl.errors import IntegrityError, LlmctlError, UnsupportedFileError
from llmctl.gguf.cursor import CUT_OFF_HINT
from llmctl.printable import printable

MAGIC = b"GGUF"
EXAMINED_BYTES = 64  # enough of a file to tell its format
SHOWN_CHARACTERS = 40

GGML = b"lmgg"  # 0x67676d6c, little-endian: of llama.cpp before GGUF, and of whisper.cpp until today
WHISPER_VOCABULARIES = range(51864, 51867)  # tokens: English, multilingual, large-v3; the first figure of its header
LFS_POINTER = b"version https://git-lfs"
WEB_PAGE = ("<!doctype html", "<html", "<?xml")
TFLITE = b"TFL3"  # from byte 4 on
ONNX = re.compile(rb"\x08[\x01-\x1f]\x12[\x01-\x20][A-Za-z]")  # protobuf: the format's version, its maker's name
IMPORTANCE_MATRIX = re.compile(rb".{3}\x00.\x00\x00\x00(?:blk\.|output|token_embd)", re.DOTALL)  # counts, a first name
MAX_SAFETENSORS_HEADER_BYTES = 100_000_000  # the format's own limit

CONVERT_HINT = "llama.cpp's convert_hf_to_gguf.py makes a GGUF file of a model's folder"
UNPACK_HINT = "unpack it, and name the .gguf file in it"

BEGINNINGS: Mapping[bytes, tuple[str, str | None]] = {
    GGML: ("is in the ggml format that GGUF replaced in 2023; llama.cpp no longer reads it", CONVERT_HINT),
    b"fmgg": ("is in the ggmf format that GGUF replaced in 2023; llama.cpp no longer reads it", CONVERT_HINT),
    b"tjgg": ("is in the ggjt format that GGUF replaced in 2023; llama.cpp no longer reads it", CONVERT_HINT),
    b"algg": ("is a LoRA adapter in the ggla format that GGUF replaced; llama.cpp no longer reads it", None),
    b"PK\x03\x04": ("is a ZIP archive, as PyTorch saves its models, not a GGUF file", CONVERT_HINT),
    b"PK\x05\x06": ("is an empty ZIP archive, not a GGUF file", None),
    b"\x80\x02": ("is a Python pickle, as PyTorch used to save its models, not a GGUF file", CONVERT_HINT),
    b"\x80\x04": ("is a Python pickle, as PyTorch used to save its models, not a GGUF file", CONVERT_HINT),
    b"\x89HDF\r\n": ("is an HDF5 file, as Keras saves its models, not a GGUF file", CONVERT_HINT),
    b"\x93NUMPY": ("is a NumPy array, not a GGUF file", None),
    b"MZqFpD": ("is a llamafile, a program with a model inside, not a GGUF file", UNPACK_HINT),
    b"\x1f\x8b": ("is compressed with gzip", UNPACK_HINT),
    b"\xfd7zXZ\x00": ("is compressed with xz", UNPACK_HINT),
    b"\x28\xb5\x2f\xfd": ("is compressed with zstd", UNPACK_HINT),
    b"BZh": ("is compressed with bzip2", UNPACK_HINT),
    b"\x04\x22\x4d\x18": ("is compressed with lz4", UNPACK_HINT),
    b"Rar!\x1a\x07": ("is a RAR archive", UNPACK_HINT),
    b"\x7fELF": ("is a program, not a GGUF file", None),
    b"%PDF-": ("is a PDF document, not a GGUF file", None),
    b"\x89PNG\r\n": ("is a picture, not a GGUF file", None),
    b"\xff\xd8\xff": ("is a picture, not a GGUF file", None),
    b"7z\xbc\xaf\x27\x1c": ("is a 7z archive", UNPACK_HINT),
}
"""First bytes -> what such a file is, to go on from its name, and what to do next."""


def not_gguf(start: bytes) -> LlmctlError:
    """Why a file that begins with ``start``, up to EXAMINED_BYTES, isn't GGUF: an UnsupportedFileError for a sound file
    in another format, else an IntegrityError. Messages lack their subject."""
    if start[:4] == GGML and int.from_bytes(start[4:8], "little") in WHISPER_VOCABULARIES:
        return UnsupportedFileError("is a speech model in whisper.cpp's own format: it writes down what it hears")
    for magic, (sentence, hint) in BEGINNINGS.items():
        if start.startswith(magic):
            return UnsupportedFileError(sentence, hint=hint)
    if start[4:8] == TFLITE:
        return UnsupportedFileError("is a TensorFlow Lite model, not a GGUF file")
    if ONNX.match(start):
        return UnsupportedFileError("is an ONNX model, not a GGUF file")
    if IMPORTANCE_MATRIX.match(start):
        return UnsupportedFileError("is an importance matrix in its old format (.dat), not a model")
    if _is_safetensors(start):
        return UnsupportedFileError("holds weights in the safetensors format, not a GGUF model", hint=CONVERT_HINT)
    return _damaged(start)


def _is_safetensors(start: bytes) -> bool:
    """A safetensors file begins with the length of a JSON object in 64 bits, and that object."""
    length = int.from_bytes(start[:8], "little")
    return start[8:9] == b"{" and 2 <= length <= MAX_SAFETENSORS_HEADER_BYTES


def _damaged(start: bytes) -> IntegrityError:
    if not start:
        return IntegrityError("is empty, not a GGUF file", hint=CUT_OFF_HINT)
    if start.startswith(LFS_POINTER):
        return IntegrityError("is a Git LFS pointer, not the model itself", hint="git lfs pull")
    text = start.removeprefix(BOM_UTF8).decode("utf-8", errors="ignore")
    if len(text.encode()) >= len(start) - 6 and all(c.isprintable() or c.isspace() for c in text):
        begins = printable((text.strip().splitlines() or [""])[0], SHOWN_CHARACTERS)
        is_page = begins.lower().startswith(WEB_PAGE)
        return IntegrityError(
            f"is a {'web page' if is_page else 'text file'}, not a GGUF file: it begins with {begins!r}",
            hint="llmctl pull ORG/NAME   fetches the file, not the page that leads to it" if is_page else None,
        )
    return IntegrityError(f"is not a GGUF file: it begins with bytes {start[:4].hex(' ')}, not {MAGIC.hex(' ')}")
