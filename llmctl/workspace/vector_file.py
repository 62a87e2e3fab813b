"""Vectors as a NumPy file: one row for each text, in single precision."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmctl.errors import ResourceError, UsageError
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
