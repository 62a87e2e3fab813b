"""Gathers what doctor checks beside machine and engine: settings, store, servers, recorded runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from llmctl import net, paths, settings
from llmctl.endpoint.health import EndpointHealth, health
from llmctl.engine import history
from llmctl.engine.history import Run
from llmctl.engine.install import Installed, installed
from llmctl.errors import LlmctlError
from llmctl.host import Host
from llmctl.hub.reachability import Reach
from llmctl.settings import Settings
from llmctl.store import Store, Unfinished
from llmctl.types.endpoint import Endpoint
from llmctl.types.policy import Policy

UNKNOWN = Installed()


class Surroundings(Struct, frozen=True):
    """``config_mode`` and ``token_mode`` are permission bits (None: there is no file, or no such bits here).

    ``threads`` is the user's setting. ``unfinished`` are downloads that were interrupted, with the time since.
    ``endpoints`` is the state of the user's servers; ``reach`` that of the hub, None where it was not asked.
    ``installed`` is what commands that install an engine depend on. ``runs`` are the recorded runs, the oldest first:
    None where recording is off.
    """

    store: Path
    store_writable: bool
    config_file: Path
    config_mode: int | None = None
    config_error: LlmctlError | None = None
    token_file: Path | None = None
    token_mode: int | None = None
    threads: int | None = None
    unfinished: tuple[Unfinished, ...] = ()
    endpoints: tuple[EndpointHealth, ...] = ()
    reach: Reach | None = None
    installed: Installed = UNKNOWN
    runs: tuple[Run, ...] | None = None


def around(reach: Reach | None = None) -> Surroundings:
    """Gathers everything. The user's own servers are asked whether they answer, unless prompts may not go there or
    llmctl is offline; nothing else is sent. Raises nothing."""
    loaded, config_error = None, None
    try:
        loaded = settings.load()
    except LlmctlError as error:
        config_error = error
    store, file, token = paths.hub_cache(), paths.config_file(), paths.hub_token_file()
    existing = next((place for place in (store, *store.absolute().parents) if os.path.exists(place)), store)  # noqa: PTH110  pathlib's raises
    return Surroundings(
        store=store,
        store_writable=os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK),  # noqa: PTH112
        config_file=file,
        config_mode=_mode(file),
        config_error=config_error,
        token_file=token,
        token_mode=_mode(token),
        threads=loaded.threads if loaded else None,
        unfinished=tuple(Store().unfinished()),
        endpoints=_healths(_askable(loaded)) if loaded else (),
        reach=reach,
        installed=installed(Host()),
        runs=history.read() if loaded and loaded.history else None,
    )


def _mode(file: Path) -> int | None:
    try:
        return file.stat().st_mode & 0o777 if os.name == "posix" else None
    except OSError:
        return None


def _askable(loaded: Settings) -> tuple[Endpoint, ...]:
    if loaded.policy is Policy.LOCAL_ONLY:
        return ()
    return tuple(endpoint for endpoint in loaded.endpoints if not loaded.offline or net.is_loopback(endpoint.url))


def _healths(endpoints: Sequence[Endpoint]) -> tuple[EndpointHealth, ...]:
    """Asks all servers at the same time, so that one time-out covers all that don't answer. The threads are daemons:
    Ctrl-C doesn't wait for them."""
    states: dict[int, EndpointHealth] = {}

    def ask(index: int) -> None:
        states[index] = health(endpoints[index])

    threads = [threading.Thread(target=ask, args=(index,), daemon=True) for index in range(len(endpoints))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tuple(states[index] for index in range(len(endpoints)) if index in states)
