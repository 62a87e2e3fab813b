"""Files of encrypted questions and scores: a first line that says what they are, then ciphertexts, each after its
length."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from llmctl.encrypted_scoring.parameters import DEGREE
from llmctl.errors import IntegrityError, NotFoundError, ResourceError
from llmctl.files import atomic
from llmctl.files.decode import FieldError, Table

QUESTION, SCORES, KEY = "llmctl-question/1", "llmctl-scores/1", "llmctl-question-key/1"
HEAD_BYTES = 4096
MOST_VECTORS = 1 << 20
FILE_BYTES = 1 << 34
LENGTH_BYTES = 4


class Container(Struct, frozen=True):
    """``scale`` is that of the numbers in it; ``vectors`` are those that were scored, 0 in questions and keys."""

    kind: str
    dimensions: int
    parts: tuple[bytes, ...]
    scale: float = 1.0
    vectors: int = 0

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.parts))


def write(path: Path, container: Container, *, mode: int = atomic.SHARED) -> None:
    """Raises ResourceError."""
    fields = {"dimensions": container.dimensions, "scale": container.scale, "vectors": container.vectors or None}
    head = json.dumps({"kind": container.kind, **fields}).encode()
    parts = b"".join(len(part).to_bytes(LENGTH_BYTES, "big") + part for part in container.parts)
    try:
        atomic.write(path, head + b"\n" + parts, mode=mode)
    except OSError as error:
        raise ResourceError(f"{path} can't be written: {error.strerror or error}") from error


def read(path: Path, kind: str) -> Container:
    """Raises NotFoundError, ResourceError, and IntegrityError for what is no file of that kind."""
    try:
        with path.open("rb") as stream:
            head, raw = stream.readline(HEAD_BYTES), stream.read(FILE_BYTES)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path}") from error
    except OSError as error:
        raise ResourceError(f"{path} can't be read: {error.strerror or error}") from error
    try:
        return _container(json.loads(head), tuple(_parts(raw)), kind)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is no {kind} file: {error}") from error


def _container(head: Mapping[str, Any], parts: Sequence[bytes], kind: str) -> Container:
    """Raises FieldError."""
    table = Table(head, "the first line")
    table.check(table.text("kind") == kind, "kind", f"{kind}")
    dimensions, vectors = table.count("dimensions"), table.count_or_none("vectors") or 0
    table.check(1 <= dimensions <= DEGREE, "dimensions", f"1 to {DEGREE:,}")
    table.check(vectors <= MOST_VECTORS, "vectors", f"at most {MOST_VECTORS:,}")
    scale = table.positive_or_none("scale")
    if scale is None:
        raise FieldError("scale", "is missing")
    table.end()
    return Container(kind, dimensions, tuple(parts), float(scale), vectors)


def _parts(raw: bytes) -> list[bytes]:
    """Raises ValueError where the last one is cut off."""
    parts, at = [], 0
    while at < len(raw):
        end = at + LENGTH_BYTES + int.from_bytes(raw[at : at + LENGTH_BYTES], "big")
        if end > len(raw):
            raise ValueError("it is cut off")
        parts.append(raw[at + LENGTH_BYTES : end])
        at = end
    return parts
