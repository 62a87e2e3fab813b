"""Models split over several files, as llama-gguf-split names them: ``name-00001-of-00003.gguf``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from llmctl.errors import IntegrityError, NotFoundError
from llmctl.gguf.header import read_file
from llmctl.shell import command
from llmctl.types.header import Header, Tensor

ENDING = ".gguf"
SHARD = re.compile(
    r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<total>[0-9]{5})(?P<ending>\.gguf)", re.DOTALL | re.IGNORECASE
)
MAX_SHARDS = 1000
TOLD_AT_MOST = 5  # names of missing parts


class Shard(NamedTuple):
    """One part of a split model, by its name: number ``number`` of ``total``, counted from 1."""

    stem: str
    number: int
    total: int
    ending: str

    def part(self, number: int) -> str:
        """The name of another part of the same model."""
        return f"{self.stem}-{number:05}-of-{self.total:05}{self.ending}"


def shard(name: str) -> Shard | None:
    """What a file's name, which may have folders before it, says of its part of a model; None if it isn't split.

    Raises IntegrityError for numbers that make no sense.
    """
    match = SHARD.fullmatch(name)
    if match is None:
        return None
    number, total = int(match["number"]), int(match["total"])
    if not 1 <= number <= total <= MAX_SHARDS:
        raise IntegrityError(f"{name} claims to be part {number} of {total}; at most {MAX_SHARDS} parts are possible")
    return Shard(match["stem"], number, total, match["ending"])


def shard_names(name: str) -> list[str]:
    """The names of all files of the model that file ``name`` belongs to, in order: ``[name]`` if it isn't split.

    Folders before the name are kept. Raises IntegrityError for numbers that make no sense.
    """
    split = shard(name)
    return [name] if split is None else [split.part(number) for number in range(1, split.total + 1)]


def read_model(path: Path, *, whole: bool = False) -> tuple[list[Path], Header]:
    """All files of the model that ``path`` belongs to, and what their headers say together.

    Each may hold its header only, unless they are to be ``whole``. Raises NotFoundError that names the parts that
    aren't beside the others, and what ``read_file`` and ``joined`` raise.
    """
    parts = [path.with_name(name) for name in shard_names(path.name)]
    missing = [part.name for part in parts if _is_missing(part)]
    if missing and len(parts) > 1:
        more = f" and {len(missing) - TOLD_AT_MOST} more" if len(missing) > TOLD_AT_MOST else ""
        raise NotFoundError(
            f"{path}: {len(missing)} of the model's {len(parts)} parts are missing: "
            f"{', '.join(missing[:TOLD_AT_MOST])}{more}",
            hint=f"put all parts into {command(path.parent)}",
        )
    return parts, joined([read_file(part, whole=whole) for part in parts], [str(part) for part in parts])


def _is_missing(part: Path) -> bool:
    """Whether there is no such file. Of what can't be looked at ``read_file`` says why."""
    try:
        part.stat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False


def joined(headers: Sequence[Header], names: Sequence[str]) -> Header:
    """One header with the tensors of all parts, in the order of ``names``; metadata are the first part's.

    Offsets then count from the end of the part before. Raises IntegrityError that begins with the name of a part that
    is not what its name says, or that doesn't go with the others. The keys are those of llama-gguf-split
    (``LLM_KV_SPLIT_*``, src/llama-arch.cpp); a part without them is taken by its name.
    """
    tensors: dict[str, Tensor] = {}
    before = 0
    for index, (header, name) in enumerate(zip(headers, names, strict=True)):
        number, total = _figure(header, "split.no", index, name), _figure(header, "split.count", len(headers), name)
        if total != len(headers) and (total or len(headers) > 1):  # one file may say that it was split into none
            raise IntegrityError(
                f"{name} is one of {total} parts by its header, one of {len(headers)} by its name",
                hint="give the parts the names that they were made with: llama.cpp finds them by those",
            )
        if number != index:
            raise IntegrityError(f"{name} is number {number} of the parts, counted from 0, by its header")
        for tensor in header.tensors:
            if tensor.name in tensors:
                raise IntegrityError(f"{name} holds tensor {tensor.name!r}, which another part holds already")
            tensors[tensor.name] = replace(tensor, offset=tensor.offset + before)
        before += header.tensor_bytes
    promised = _figure(headers[0], "split.tensors.count", len(tensors), names[0])
    if promised != len(tensors):
        raise IntegrityError(f"{names[0]} promises {promised} tensors in all parts, they hold {len(tensors)}")
    return replace(headers[0], tensors=tuple(tensors.values()))


def _figure(header: Header, key: str, default: int, name: str) -> int:
    value = header.metadata.get(key, default)
    if not isinstance(value, int):
        raise IntegrityError(f"{name} has {str(value)[:40]!r} as {key}, not a number")
    return value
