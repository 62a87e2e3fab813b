"""The programs of llama-server on this machine: named by the setting, built by llmctl, or on PATH; and what each says
of itself. None is asked unless it may be needed: asking takes some 30 ms."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from llmctl import child
from llmctl.engine.devices import build
from llmctl.engine.devices.pairing import is_gpu
from llmctl.engine.install.llama_server import built
from llmctl.engine.llama_server.environment import environment
from llmctl.printable import printable
from llmctl.types.engine import NativeServer, ServerSource
from llmctl.types.machine import EngineDevice, EngineInfo

NAME = "llama-server"
DEADLINE_S = 30.0  # drivers that wake up a card
LONGEST = 200
VERSION = re.compile(r"^version: (\S+)(?: \((.+)\))?", re.MULTILINE)
DEVICE = re.compile(r"^\s+([A-Za-z]\w*?)(\d+): (.+) \((\d+) MiB, (\d+) MiB free\)\s*$", re.MULTILINE)


class Program(Struct, frozen=True):
    """``is_stale``: it was built for libraries that pip has replaced since, so it can't be used."""

    path: Path
    source: ServerSource
    is_stale: bool = False


def programs(setting: Path | None) -> Iterator[Program]:
    """Those that there are, in the order in which they are taken."""
    if setting is not None:
        yield Program(setting, ServerSource.SETTING)
    for path, is_current in built():
        yield Program(path, ServerSource.BUILT, is_stale=not is_current)
    if (on_path := shutil.which(NAME, path=_absolute_path())) is not None:
        yield Program(Path(on_path), ServerSource.PATH)


def _absolute_path() -> str:
    """PATH without places that depend on the working directory, where anybody's files may lie."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if Path(folder).is_absolute())


def asked(program: Program) -> EngineInfo:
    """Its version, build and devices, or why it can't be used. Raises nothing."""
    if program.is_stale:
        return _unusable("it was built for another llama-cpp-python than is installed")
    version = _said(program.path, "--version")
    match = None if version is None else VERSION.search(version)
    if match is None:
        return _unusable(_why(program.path, version))
    devices = tuple(_devices(_said(program.path, "--list-devices") or ""))
    backends = dict.fromkeys(["CPU", *(device.backend for device in devices)])
    about = None if match[2] is None else printable(match[2], LONGEST)
    return EngineInfo(NAME, printable(match[1], LONGEST), about, backends=tuple(backends), devices=devices, usable=True)


def server_of(program: Program, about: EngineInfo, worker: EngineInfo | None = None) -> NativeServer:
    """``worker`` is llama-cpp-python. Raises OSError where the file is gone."""
    is_alone = worker is None or not any(is_gpu(device) for device in worker.devices)
    gpus = tuple(f"{device.name} ({device.description})" for device in about.devices if is_alone and is_gpu(device))
    return NativeServer(str(program.path), program.source, build(about), program.path.stat().st_mtime_ns, gpus)


def _unusable(why: str) -> EngineInfo:
    return EngineInfo(NAME, None, None, why=why)


def _said(program: Path, option: str) -> str | None:
    """What it prints, on whichever stream; None where it fails."""
    try:
        done = child.run([str(program), option], environment(), DEADLINE_S)
    except (OSError, ValueError):
        return None
    if done is None or done[0] != 0:
        return None
    return "\n".join(part.decode("utf-8", "replace") for part in done[1:])


def _why(program: Path, said: str | None) -> str:
    if said is not None:
        return f"{program} does not say its version: it is no llama-server"
    return f"{program} --version fails" if program.exists() else f"{program} is not there"


def _devices(said: str) -> Iterator[EngineDevice]:
    for backend, number, description, total, free in DEVICE.findall(said):
        yield EngineDevice(
            name=backend + number,
            description=printable(description, LONGEST),
            backend=backend,
            kind="gpu",
            memory_total_bytes=int(total) << 20,
            memory_free_bytes=int(free) << 20,
        )
