"""A file that a person names on the command line, opened to be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from llmctl.errors import AccessError, NotFoundError, ResourceError, UsageError
from llmctl.printable import printable
from llmctl.shell import command


@contextmanager
def opened(path: str, option: str, *, hint: str | None = None) -> Iterator[BinaryIO]:
    """The bytes of ``path``, which was given to ``option``; ``hint`` is what to type instead of a folder. Raises
    UsageError for a folder; NotFoundError, AccessError and ResourceError where it can't be read."""
    name = printable(path)
    try:
        with Path(path).open("rb") as file:
            yield file
    except FileNotFoundError as error:
        look = command("ls", names=[Path(path).parent])
        raise NotFoundError(f"{name} is not there", hint=f"{look}   lists what is there") from error
    except IsADirectoryError as error:
        raise UsageError(f"{name} is a folder, {option} takes files", hint=hint) from error
    except PermissionError as error:
        raise AccessError(f"{name} may not be read by this user") from error
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        raise ResourceError(f"{name} can't be read: {getattr(error, 'strerror', None) or error}") from error
