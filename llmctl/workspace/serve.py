"""A gateway on this machine, from its socket to its end: what stands behind it, and in which order things stop."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from llmctl.errors import DrainingError, LlmctlError, ResourceError, UsageError
from llmctl.settings import Settings
from llmctl.types.listener import Listener
from llmctl.workspace.gateway_hand_over import GatewayHandOver
from llmctl.workspace.gateways import GatewayModel
from llmctl.workspace.serve_original import OriginalModel
from llmctl.workspace.serve_plan import ServePlan
from llmctl.workspace.served_engine import RunningEngine, start_engine
from llmctl.workspace.served_model import PlannedModel, ServableModel, ServingTiming
from llmctl.workspace.served_models import ServedModels

LOCALHOST = "127.0.0.1"
BACKLOG = 1024
DRAIN_S = 30.0
LOOK_S = 0.05


class Stoppable(Protocol):
    """A gateway that runs."""

    def stop(self, *, at_once: bool = False) -> None: ...


def bound(host: str, port: int) -> socket.socket:
    """A socket that is bound, and doesn't listen yet. ``port`` 0: one that the system chooses. Raises UsageError for a
    host that isn't this machine's, and ResourceError for a port that is taken, or not this user's to take."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"--host {host} is no address: {error.strerror or error}") from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        raise _unbound(host, port, error) from error
    return made


def _unbound(host: str, port: int, error: OSError) -> LlmctlError:
    if error.errno == errno.EADDRINUSE:
        who = _holder(port)
        holder = "" if who is None else f" by {who}"
        return ResourceError(
            f"port {port} of {host} is taken{holder}", hint=f"llmctl serve --port {_free_port(host)} …"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(f"{host} is no address of this machine", hint="ip -brief address   lists them")
    return ResourceError(f"port {port} of {host} can't be had: {error.strerror}", hint="llmctl serve --port 8484 …")


def _free_port(host: str) -> int:
    with bound(host, 0) as free:
        port: int = free.getsockname()[1]
        return port


def _holder(port: int) -> str | None:
    """The program that listens there, as far as the system tells this user."""
    import psutil

    try:
        listening = [
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,) and connection.pid
        ]
        return f"{psutil.Process(listening[0]).name()} (process {listening[0]})" if listening else None
    except (psutil.Error, OSError):
        return None


def served_models(
    plan: ServePlan,
    settings: Settings,
    listener: Listener,
    *,
    queue: int,
    idle_s: float | None,
    lock_memory: bool = False,
) -> ServedModels:
    """The models of ``plan``, none of them loaded yet. ``settings`` have the gateway's own policy."""
    return ServedModels(
        plan.models,
        start=partial(_started, listener=listener, lock_memory=lock_memory),
        listener=listener,
        budget=plan.budget,
        auto=plan.auto,
        task=plan.task,
        queue=queue,
        timing=ServingTiming(idle_s=idle_s),
        hand_over=GatewayHandOver(settings, listener),
    )


def _started(model: ServableModel, *, listener: Listener, lock_memory: bool) -> RunningEngine:
    if isinstance(model, PlannedModel):
        return start_engine(model.fit, listener, lock_memory=lock_memory)
    assert isinstance(model, OriginalModel)
    from llmctl.engine.vllm.start import start

    return start(model.job)


def hands_over_to(settings: Settings, listener: Listener) -> tuple[str, ...]:
    """The names of the servers that a request may go on to."""
    return tuple(server.name for server in GatewayHandOver(settings, listener).servers)


def listed(plan: ServePlan) -> tuple[GatewayModel, ...]:
    return tuple(
        GatewayModel(model.name, model.quant, model.context, model.users, model.tasks, model.also_named)
        for model in plan.models
    )


def preload(
    models: ServedModels, names: Sequence[str], *, loaded: Callable[[], None], failed: Callable[[LlmctlError], None]
) -> None:
    """Loads them one after the other, in a thread. ``loaded`` is called when all are, ``failed`` with the error of the
    first that can't be, neither where the gateway is stopped before."""

    def load() -> None:
        try:
            for name in names:
                models.lease(name).close()
        except DrainingError:
            return
        except LlmctlError as error:
            failed(error)
        else:
            loaded()

    threading.Thread(target=load, name="preload", daemon=True).start()


class Stopping:
    """Stops a gateway: the first ``__call__`` lets open answers finish, for ``drain_s`` at most, while new requests are
    refused; the second ends it at once. Callable from a signal's handler."""

    def __init__(self, gateway: Stoppable, models: ServedModels, drain_s: float = DRAIN_S) -> None:
        self._gateway, self._models, self._drain_s = gateway, models, drain_s
        self._is_draining = False

    def __call__(self, *, at_once: bool = False) -> None:
        if self._is_draining or at_once:
            self._models.drain()
            self._gateway.stop(at_once=True)
            return
        self._is_draining = True
        self._models.drain()
        threading.Thread(target=self._drain, name="drain", daemon=True).start()

    def _drain(self) -> None:
        deadline = time.monotonic() + self._drain_s
        while self._models.in_flight and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        self._gateway.stop(at_once=self._models.in_flight > 0)


def url_of(sock: socket.socket, host: str, *, tls: bool) -> str:
    """The address for programs, with /v1. A gateway that listens on every address is named by loopback's."""
    port = sock.getsockname()[1]
    shown = LOCALHOST if host in ("0.0.0.0", "::", "") else host  # noqa: S104
    shown = f"[{shown}]" if ":" in shown else shown
    return f"{'https' if tls else 'http'}://{shown}:{port}/v1"
