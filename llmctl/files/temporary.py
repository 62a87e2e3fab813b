"""A folder for what isn't whole yet, on the filesystem where it will be."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def temporary_folder(folder: Path) -> Iterator[None]:
    """Makes ``folder``, empty, and removes it in the end. What a killed process left in it is removed first, so the
    caller holds its lock. Raises OSError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
