"""Installs a build of llama-cpp-python into a folder of its own, with pip: the one in use stays as it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmctl import child, paths
from llmctl.engine import builds, devices
from llmctl.engine.builds import PythonBuild
from llmctl.engine.install import Remedy
from llmctl.engine.install.logged_run import opened_log, run
from llmctl.errors import EngineError, NetworkError
from llmctl.files import disk
from llmctl.files.lock import locked_now
from llmctl.files.temporary import temporary_folder
from llmctl.host import Host
from llmctl.store import pip
from llmctl.types.engine_name import BuildName
from llmctl.types.listener import Listener
from llmctl.types.machine import EngineInfo

ROOM_BYTES = 2_000_000_000  # the largest wheel, for CUDA, packed and unpacked


def log_file() -> Path:
    return paths.state_dir() / "engines" / "llama-cpp-python-build.log"


@contextmanager
def install(name: BuildName, remedy: Remedy, *, listener: Listener) -> Iterator[PythonBuild]:
    """The new build, at a place of its own until the context ends: then it takes the place of an older one of its
    name, unless an error was raised. Nothing is left of what fails or is interrupted but the log.

    Raises NetworkError, ResourceError, and EngineError for what can't be installed.
    """
    if os.name != "posix":
        raise EngineError("builds of llama-cpp-python can't be installed by llmctl here", hint=remedy.command)
    place = builds.place()
    working = place / ".building"
    with disk.writing(place, devices.NAME), locked_now(place / ".lock", devices.NAME):
        disk.require_room(place, ROOM_BYTES, devices.NAME)
        with temporary_folder(working):
            made = working / name
            _run_pip(remedy, made, listener)
            yield PythonBuild(name, made)
            _put_in_place(made, place / name)


def _run_pip(remedy: Remedy, target: Path, listener: Listener) -> None:
    """The command of ``remedy``, but into ``target``."""
    own = {variable: value for variable, value in os.environ.items() if variable not in paths.HUB_TOKEN_VARIABLES}
    pip_settings = {
        "PIP_TARGET": str(target),
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_VERBOSE": "1",
    }
    failure = "this build of llama-cpp-python can't be installed"
    with opened_log(log_file()) as output:
        try:
            words = ["sh", "-c", remedy.command]
            run(words, output, log_file(), listener, environment={**own, **pip_settings}, failure=failure)
        except EngineError as error:
            if pip.UNREACHABLE.search(log_file().read_text("utf-8", "replace")):
                raise NetworkError(error.message, hint=error.hint) from error
            raise


def _put_in_place(made: Path, target: Path) -> None:
    """The old one goes when the new one is there."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    made.rename(target)
    disk.sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def asked(folder: Path) -> EngineInfo:
    """What the build in ``folder`` says of itself after it has computed something, or why it can't be used. Raises
    nothing."""
    environ = {**child.environment(os.environ), builds.VARIABLE: str(folder)}
    return devices.ask(Host(environ=environ))
