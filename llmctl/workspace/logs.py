"""The logs of gateways and engines: which there are, and their lines. None holds a word of a prompt or an answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from llmctl.errors import NotFoundError
from llmctl.workspace import engines, gateways

READ_BYTES = 1 << 20  # from the end
LOOK_S = 0.25


class LogKind(StrEnum):
    GATEWAY = "gateway"
    ENGINE = "engine"


class Log(Struct, frozen=True):
    """``name`` is a gateway's address or an engine's model, None for one that has ended."""

    kind: LogKind
    name: str | None
    path: Path

    @property
    def is_running(self) -> bool:
        return self.name is not None

    def lines(self, most: int) -> list[str]:
        """The last of them; none where it is gone."""
        try:
            with self.path.open("rb") as file:
                end = file.seek(0, 2)
                file.seek(max(0, end - READ_BYTES))
                return file.read().decode("utf-8", "replace").splitlines()[-most:]
        except OSError:
            return []


def logs() -> list[Log]:
    """Those that are written to first, then those of what has failed, the last one first."""
    running = [
        Log(LogKind.GATEWAY, gateway.address, Path(gateway.log)) for gateway in gateways.running() if gateway.log
    ]
    running += [Log(LogKind.ENGINE, name, path) for name, path in engines.logs()]
    return [*running, *_ended({log.path for log in running})]


def _ended(running: set[Path]) -> Iterator[Log]:
    from llmctl.engine import log

    for kind, folder in ((LogKind.GATEWAY, log.GATEWAYS), (LogKind.ENGINE, log.ENGINES)):
        yield from (Log(kind, None, path) for path in log.kept(folder) if path not in running)


def meant(name: str | None) -> Log:
    """The log of the gateway ("serve", its address) or the engine of that name; the first of ``logs`` without one.
    Raises NotFoundError."""
    every = logs()
    for log in every:
        if name is None or _is_meant(log, name):
            return log
    named = ", ".join(log.name for log in every if log.name is not None)
    if not every:
        raise NotFoundError("there is no log: engines and gateways that end in order leave none")
    raise NotFoundError(f"nothing named {name} writes a log now ({named or 'none is written'})", hint="llmctl ps")


def _is_meant(log: Log, name: str) -> bool:
    if log.kind is LogKind.GATEWAY:
        return name in (gateways.NAME, log.name)
    return log.name is not None and name in (log.name, log.name.partition(":")[0])


def following(log: Log) -> Iterator[str]:
    """The lines that are added from now on; for ever, or until the log is gone."""
    try:
        with log.path.open("r", encoding="utf-8", errors="replace") as file:
            file.seek(0, 2)
            while log.path.exists():
                line = file.readline()
                if line:
                    yield line.rstrip("\n")
                else:
                    time.sleep(LOOK_S)
    except OSError:
        return
