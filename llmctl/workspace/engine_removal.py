"""Removing what ``engine install`` has installed: builds of llama-cpp-python and llama-server."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from llmctl.errors import NotFoundError, ResourceError, UsageError
from llmctl.types.engine_name import INSTALLED, BuildName, EngineName

if TYPE_CHECKING:
    from llmctl.settings import Settings
    from llmctl.types.listener import Listener

REMOVABLE = (EngineName.LLAMA_SERVER, *BuildName)
LIST = "llmctl engine list"


class EngineRemoval(Struct, frozen=True):
    """``name`` is that of ``engine install``; ``folders`` go, which take ``bytes`` of disk."""

    name: str
    folders: tuple[Path, ...]
    bytes: int


def removal(listener: Listener, settings: Settings, name: str) -> EngineRemoval:
    """What removing ``name`` would remove. Raises UsageError for another name and for what is in use, NotFoundError
    where it isn't here."""
    from llmctl.files.disk import folder_bytes

    if name == INSTALLED:
        raise UsageError(f"{INSTALLED} is what came with llmctl: it stays, for you to go back to", hint=LIST)
    if name not in REMOVABLE:
        from llmctl.near import did_you_mean, near

        only = f"only {', '.join(REMOVABLE)}{did_you_mean(near(name, list(REMOVABLE)))}"
        raise UsageError(f"{name!r} can't be removed by llmctl, {only}", hint=LIST)
    folders = _servers(listener, settings) if name == EngineName.LLAMA_SERVER else _build(BuildName(name))
    if not folders:
        raise NotFoundError(f"llmctl has installed no {name} here", hint=LIST)
    return EngineRemoval(name, folders, sum(map(folder_bytes, folders)))


def remove(asked: EngineRemoval) -> None:
    """Removes it, none of it half. Raises ResourceError where another process installs one meanwhile, and where it
    can't be removed."""
    from llmctl.files.lock import locked_now
    from llmctl.shell import command

    for folder in asked.folders:
        going = folder.with_name(f".{folder.name}.old")
        try:
            with locked_now(folder.parent / ".lock", asked.name):
                shutil.rmtree(going, ignore_errors=True)
                folder.rename(going)
                shutil.rmtree(going)
        except OSError as error:
            hint = command("ls", "-ld", names=[folder.parent])
            raise ResourceError(f"{folder} can't be removed: {error.strerror}", hint=hint) from error


def _build(name: BuildName) -> tuple[Path, ...]:
    """The folder of that build, none where it isn't here. Raises UsageError where it is in use."""
    from llmctl.engine import builds

    if (chosen := builds.chosen()) is not None and chosen.name is name:
        raise UsageError(f"the build for {name} is in use", hint=f"llmctl engine use {INSTALLED}")
    return tuple(build.folder for build in builds.builds() if build.name is name)


def _servers(listener: Listener, settings: Settings) -> tuple[Path, ...]:
    """The folders of every llama-server that llmctl has compiled. Raises UsageError where one is in use."""
    from llmctl.engine.install import llama_server
    from llmctl.types.engine import ServerSource
    from llmctl.workspace.engine import listed

    folders = tuple(program.parent for program, _ in llama_server.built())
    if folders and any(each.is_used and each.source is ServerSource.BUILT for each in listed(listener, settings)):
        raise UsageError(f"{EngineName.LLAMA_SERVER} is in use", hint=f"llmctl engine use {EngineName.LLAMA_CPP}")
    return folders
