"""The gateways of this user that run on this machine: each writes a file of its own in the runtime folder."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from llmctl.errors import NotFoundError, ResourceError, UsageError
from llmctl.files import atomic
from llmctl.shell import command
from llmctl.types.listener import Listener

if TYPE_CHECKING:
    from llmctl.engine.warm.process import Process

LIMIT_BYTES = 64 << 10
SUFFIX = ".json"
END_S = 40.0  # open answers may finish, and then the engines end
LOOK_S = 0.05
NAME = "serve"


class GatewayModel(Struct, frozen=True):
    """``tasks``: it answers what is asked of ``auto:TASK``. ``context`` is of each of its ``users``; ``also_named`` are
    other names for it."""

    name: str
    quant: str
    context: int
    users: int
    tasks: tuple[str, ...] = ()
    also_named: tuple[str, ...] = ()


class Gateway(Struct, frozen=True):
    """A gateway that runs. ``key`` is what lets programs of this user in, empty where none is needed; it never shows.
    ``log`` is None where it writes to the terminal that it was started at; ``since_s`` counts from 1970."""

    pid: int
    started: str
    address: str
    models: tuple[GatewayModel, ...]
    since_s: float
    log: str | None = None
    key: str = ""

    def __repr__(self) -> str:
        """Without the key."""
        return f"Gateway({self.pid}, {self.address!r})"

    def answers_to(self, name: str) -> bool:
        return name in (NAME, str(self.pid), self.address, self.address.removesuffix("/v1"))

    def serves(self, name: str) -> GatewayModel | None:
        return next((model for model in self.models if name in (model.name, *model.also_named)), None)

    def model_for(self, usual: str, task: str | None) -> GatewayModel | None:
        """The model for ``task``; without one that for the ``usual`` task, or else the first."""
        able = [model for model in self.models if (task or usual) in model.tasks]
        return next(iter(able or (self.models if task is None else ())), None)

    @property
    def admits_programs(self) -> bool:
        """Whether programs of this machine get in with what is known here: they don't know its own certificate."""
        return self.address.startswith("http:")

    @property
    def process(self) -> Process:
        from llmctl.engine.warm.process import Process

        return Process(self.pid, self.started)


def this_process(address: str, models: Sequence[GatewayModel], *, log: str | None, key: str) -> Gateway:
    from llmctl.engine.warm.process import started

    return Gateway(os.getpid(), started(os.getpid()) or "", address, tuple(models), time.time(), log, key)


@contextmanager
def announced(gateway: Gateway, listener: Listener) -> Iterator[None]:
    """Other commands find the gateway while the context lasts; the listener is warned where that can't be."""
    path = None
    try:
        path = _written(gateway)
    except ResourceError as error:
        listener.warn(f"ps, stop, env and launch don't find this gateway: {error.message}")
    try:
        yield
    finally:
        if path is not None:
            path.unlink(missing_ok=True)


def _written(gateway: Gateway) -> Path:
    """Raises ResourceError where there is no runtime folder that is this user's alone."""
    folder = _folder(make=True)
    assert folder is not None
    path = folder / f"{gateway.pid}{SUFFIX}"
    try:
        atomic.write(path, msgspec.json.encode(gateway))
    except OSError as error:
        raise ResourceError(f"{path} can't be written: {error.strerror or error}") from error
    return path


def running() -> list[Gateway]:
    """The one that was started last comes first. What others have left behind is removed."""
    folder = _folder()
    gateways = []
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder is not None else ():
        gateway = atomic.read_json(path, LIMIT_BYTES, Gateway)
        if gateway is not None and gateway.process.is_alive:
            gateways.append(gateway)
        else:
            with suppress(OSError):
                path.unlink()
    return sorted(gateways, key=lambda gateway: -gateway.since_s)


def meant(name: str | None) -> list[Gateway]:
    """The gateway that ``name`` means, if it means one; all without a name. Raises UsageError where several could be
    meant, and NotFoundError where it can only be a gateway's and there is none."""
    gateways = [gateway for gateway in running() if name is None or gateway.answers_to(name)]
    if name == NAME and not gateways:
        raise NotFoundError("no gateway runs", hint="llmctl ps")
    if name is not None and len(gateways) > 1:
        addresses = " and ".join(gateway.address for gateway in gateways)
        hint = f"{command('llmctl', 'stop', names=[gateways[0].address])}   or --all"
        raise UsageError(f"{len(gateways)} gateways run: {addresses}", hint=hint)
    return gateways


def stop(gateways: Sequence[Gateway], within_s: float = END_S) -> None:
    """Ends them in order: open answers may finish. Raises ResourceError for one that can't be ended."""
    for gateway in gateways:
        gateway.process.signal(signal.SIGTERM)
    deadline = time.monotonic() + within_s
    for gateway in gateways:
        while gateway.process.is_alive and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        if gateway.process.is_alive and not gateway.process.end(1.0):
            raise ResourceError(f"the gateway at {gateway.address} (process {gateway.pid}) does not end")


def _folder(*, make: bool = False) -> Path | None:
    """Where gateways are found; None where there is no place that is this user's alone. Raises ResourceError where it
    is to be made, and can't be."""
    if os.name != "posix":
        if not make:
            return None
        raise ResourceError("there is no place for its address on this system")
    from llmctl.engine.warm import entry

    folder = entry.folder() if make else entry.existing_folder()
    if folder is None:
        return None
    place = folder / "gateways"
    if make:
        try:
            place.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ResourceError(f"{place} can't be made: {error.strerror}") from error
    return place if place.is_dir() and place.lstat().st_uid == os.getuid() else None
