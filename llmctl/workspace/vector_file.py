"""Vectors as a NumPy file: one row for each text, in single precision; and read again, also from JSON Lines."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from llmctl.errors import NotFoundError, ResourceError, UsageError
from llmctl.files import atomic

if TYPE_CHECKING:
    from llmctl.workspace.embed import Vector


def write(path: Path, vectors: Sequence[Vector]) -> None:
    """The file has all of them, or is as it was. Raises UsageError where NumPy is missing and for what is no file, and
    ResourceError where it can't be written."""
    try:
        import numpy as np
    except ImportError as error:
        raise UsageError("NumPy is not installed, which writes such files", hint="pip install numpy") from error
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file")
    data = io.BytesIO()
    np.save(data, np.array([vector.embedding for vector in vectors], np.float32), allow_pickle=False)
    try:
        atomic.write(path, data.getvalue(), mode=atomic.SHARED)
    except OSError as error:
        raise ResourceError(f"{path} can't be written: {error.strerror or error}") from error


class EmbeddedLine(Struct, frozen=True):
    """What is read of a line that ``llmctl embed`` has written."""

    embedding: tuple[float, ...]


def read(path: Path) -> list[tuple[float, ...]]:
    """The vectors of a NumPy file (``.npy``), or of JSON Lines as ``llmctl embed`` writes them. Raises NotFoundError,
    ResourceError, and UsageError for what holds none."""
    try:
        rows = _numpy_rows(path) if path.suffix == ".npy" else _json_rows(path)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path}") from error
    except OSError as error:
        raise ResourceError(f"{path} can't be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise UsageError(f"{path} holds no vectors ({error})", hint="llmctl embed … --npy FILE.npy") from error
    if not rows or not all(map(math.isfinite, (number for row in rows for number in row))):
        raise UsageError(f"{path} holds no vectors, or such as hold no numbers", hint="llmctl embed … --npy FILE.npy")
    return rows


def _numpy_rows(path: Path) -> list[tuple[float, ...]]:
    try:
        import numpy as np
    except ImportError as error:
        raise UsageError("NumPy is not installed, which reads such files", hint="pip install numpy") from error
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu":
        raise ValueError("it is no table of numbers")
    return [tuple(row) for row in array.astype(float).tolist()]


def _json_rows(path: Path) -> list[tuple[float, ...]]:
    with path.open("rb") as lines:
        return [msgspec.json.decode(line, type=EmbeddedLine).embedding for line in lines if line.strip()]
