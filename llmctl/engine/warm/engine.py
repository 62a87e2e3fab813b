"""An engine that stays, as the command uses it that has found it or started it."""

from __future__ import annotations

import http.client
import signal
import threading
import time

from msgspec.structs import replace

from llmctl.engine.warm.entry import Entry, EntryFile, Ready
from llmctl.engine.worker_process import LOOK_S, STALL_S, STOP_S, Worker, is_stopped
from llmctl.errors import EngineDiedError, EngineError
from llmctl.host import Host
from llmctl.probe.cgroup import oom_kills, was_oom_since
from llmctl.types.endpoint import Address

ANSWERS_S = 5.0  # on a busy machine; it takes milliseconds


class WarmEngine:
    """``worker`` is the process where this command has started it. Whoever closes it lets it go, and the engine stays.
    If somebody stops the process (SIGSTOP) and it doesn't go on, it is ended."""

    was_warm: bool

    def __init__(self, file: EntryFile, entry: Entry, ready: Ready, *, load_s: float, worker: Worker | None = None):
        self.file = file
        self._process = ready.process
        self._worker = worker
        self.was_warm = worker is None
        self.address = Address(entry.address or "", entry.model, entry.token)
        self.has_chat_template = ready.has_chat_template
        self.build = ready.build
        self.sequences = entry.sequences
        self.load_s = load_s
        self._given_back = threading.Event()
        self._was_stopped = False
        self._log = ready.log
        self._oom_kills: int | None = None
        if worker is None:
            threading.Thread(target=self._watch, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def death(self) -> EngineError:
        """Why it no longer answers. EngineError for one that was ended on purpose: that is no failure of it."""
        if not self.file.is_in_place:
            return EngineError("the engine was ended while it answered", hint="run the same command again")
        if self._worker is not None:
            return self._worker.death()
        deadline = time.monotonic() + STOP_S
        while self._process.is_alive and time.monotonic() < deadline:
            time.sleep(0.05)
        from llmctl.engine import death, log

        if self._was_stopped:
            return EngineDiedError(f"the engine died: {death.STOPPED}", hint=death.DOCTOR)
        if self._process.is_alive:
            return EngineDiedError("the engine stopped answering", hint=death.DOCTOR)
        was_oom = was_oom_since(Host(), self._oom_kills)
        return death.died(
            death.End(None, log.read(self._log), was_oom), self._log, before="the engine died while it answered"
        )

    def stay_for(self, keep_alive_s: float | None) -> None:
        """From now on it ends when it was idle for so long; None for never."""
        about = self.file.read()
        if about is not None:
            self.file.write(replace(about, keep_alive_s=keep_alive_s))

    def let_go(self) -> None:
        """Leaves it to its own clock, or to others that use it."""
        self._given_back.set()
        if self._worker is not None:
            self._worker.let_go()
        self.file.close()

    def end(self) -> None:
        self._given_back.set()
        self.file.remove()
        if self._worker is not None:
            self._worker.close()
        else:
            self._process.end(STOP_S)
        self.file.close()

    def _watch(self) -> None:
        since = None
        self._oom_kills = oom_kills(Host())
        while not self._given_back.wait(LOOK_S) and self._process.is_alive:
            since = (since or time.monotonic()) if is_stopped(self.pid) else None
            if since is not None and time.monotonic() - since >= STALL_S:
                self._was_stopped = True
                self._process.signal(signal.SIGKILL)


def answers(entry: Entry, ready: Ready) -> bool:
    """Whether the engine is there, takes our token, and is not stopped."""
    if not ready.process.is_alive or is_stopped(ready.process.pid):
        return False
    connection = http.client.HTTPConnection("127.0.0.1", ready.port, timeout=ANSWERS_S)
    try:
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {entry.token}"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
