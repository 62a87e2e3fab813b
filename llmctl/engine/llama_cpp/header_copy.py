"""A model's files as the engine needs them to say what it would allocate: its headers, at the files' full length.

Only headers are read for that, so the weights can be a hole. What the engine reads and no model needs, an array of
megabytes that isn't the tokenizer's, is left out: llama.cpp takes its time for each element.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from struct import Struct
from typing import Any

from llmctl.gguf.header import DEFAULT_ALIGNMENT, read_file
from llmctl.gguf.shards import shard_names

LONG_BYTES = 1 << 20
TOKENIZER = "tokenizer."
COUNTS = Struct("<QQ")  # of tensors and of keys
COUNTS_AT = 8  # behind the magic number and the version
COPIED_AT_ONCE_BYTES = 1 << 20


def parts(file: Path) -> list[dict[str, Any]]:
    """What a child must know of each file of the model that ``file`` belongs to, as JSON. Raises what ``read_file``
    raises."""
    return [_part(file.with_name(name)) for name in shard_names(file.name)]


def _part(file: Path) -> dict[str, Any]:
    header = read_file(file, whole=False)
    left_out = [
        span
        for key, span in header.array_spans.items()
        if span[1] - span[0] > LONG_BYTES and not key.startswith(TOKENIZER)
    ]
    return {
        "file": str(file),
        "header_bytes": header.data_offset,
        "tensor_bytes": header.tensor_bytes,
        "alignment": header.metadata.get("general.alignment", DEFAULT_ALIGNMENT),
        "left_out": left_out,
    }


def whole(described: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """The file to open: the first of the model's own, if all are whole and short enough, else of copies in
    ``folder``. Raises OSError."""
    files = [Path(part["file"]) for part in described]
    if all(_serves(file, part) for file, part in zip(files, described, strict=True)):
        return files[0]
    for file, part in zip(files, described, strict=True):
        _copy(file, part, folder / file.name)
    return folder / files[0].name


def _serves(file: Path, part: Mapping[str, Any]) -> bool:
    return not part["left_out"] and file.stat().st_size >= part["header_bytes"] + part["tensor_bytes"]


def _copy(file: Path, part: Mapping[str, Any], target: Path) -> None:
    begins = [end for _, end in part["left_out"]]
    ends = [begin for begin, _ in part["left_out"]]
    with file.open("rb") as source, target.open("wb") as copy:
        for begin, end in zip([0, *begins], [*ends, part["header_bytes"]], strict=True):
            source.seek(begin)
            left = end - begin
            while left and (piece := source.read(min(left, COPIED_AT_ONCE_BYTES))):
                left -= copy.write(piece)
        left_out_bytes = sum(end - begin for begin, end in part["left_out"])
        if left_out_bytes:
            _count_less(source, copy, len(part["left_out"]))
        header_bytes = _padded(part["header_bytes"] - left_out_bytes, part["alignment"])
        copy.truncate(header_bytes + part["tensor_bytes"])


def _count_less(source: Any, copy: Any, n_keys: int) -> None:
    source.seek(COUNTS_AT)
    tensors, keys = COUNTS.unpack(source.read(COUNTS.size))
    copy.seek(COUNTS_AT)
    copy.write(COUNTS.pack(tensors, keys - n_keys))


def _padded(size: int, alignment: int) -> int:
    return (size + alignment - 1) // alignment * alignment
