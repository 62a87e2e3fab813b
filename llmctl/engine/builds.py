"""Builds of llama-cpp-python that lie beside the one of this Python, each in a folder of its own, and the one in use.

The folder of the chosen build stands first on Python's path: here, and in the children, which import this package
before llama_cpp. What pip has installed for this Python is never touched, so that one can always go back to it.
"""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from llmctl import paths
from llmctl.errors import ConfigError
from llmctl.types.engine_name import BuildName

CHOSEN = "chosen"  # the file that names the build in use
VARIABLE = "LLAMA_CPP_PYTHON_BUILD"  # a build's folder, used instead: children of ours get it, too
MODULE = "llama_cpp"


class PythonBuild(Struct, frozen=True):
    """A build in its ``folder``."""

    name: BuildName
    folder: Path


def place() -> Path:
    """Where builds lie. Raises ConfigError where there is no home folder."""
    return paths.data_dir() / "engines" / "llama-cpp-python"


def builds() -> list[PythonBuild]:
    """Those that are here; none where there is no home folder."""
    folder = _place_or_none()
    every = [] if folder is None else [PythonBuild(name, folder / name) for name in BuildName]
    return [build for build in every if (build.folder / MODULE).is_dir()]


def chosen() -> PythonBuild | None:
    """The build in use; None for the one of this Python."""
    with suppress(OSError, ValueError, ConfigError):
        name = BuildName((place() / CHOSEN).read_text("utf-8").strip())
        return next((build for build in builds() if build.name is name), None)
    return None


def choose(name: BuildName | None) -> None:
    """Makes it the build in use from now on; None: the one of this Python. Raises OSError."""
    from llmctl.files import atomic

    if name is None:
        (place() / CHOSEN).unlink(missing_ok=True)
    else:
        atomic.write(place() / CHOSEN, f"{name}\n".encode(), lasting=True)
    put_on_path()


def put_on_path() -> None:
    """Lets the build in use be found before what pip has installed."""
    given = os.environ.get(VARIABLE)
    build = None if given else chosen()
    folder = given or (None if build is None else str(build.folder))
    before = [entry for entry in sys.path if Path(entry).parent != _place_or_none()]
    after = before if folder is None else [folder, *(entry for entry in before if entry != folder)]
    if after != sys.path:
        sys.path[:] = after
        importlib.invalidate_caches()


def _place_or_none() -> Path | None:
    with suppress(ConfigError):
        return place()
    return None
