"""Starting vLLM, and what becomes of it."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from llmctl.engine.death import End, died
from llmctl.engine.vllm.program import VllmJob, arguments, environment
from llmctl.engine.vllm.supervisor import END_S
from llmctl.errors import EngineError, ResourceError
from llmctl.types.endpoint import Address

SUPERVISOR = "llmctl.engine.vllm.supervisor"
HOST = "vllm"  # in the URL: nobody is asked by that name
LOOK_S = 0.1
ANSWERS_S = 5.0
LOG_BYTES = 64 << 10  # of its end that is read
SOCKET = "vllm.sock"
LONGEST_PATH = 100  # in bytes; systems take some 104


class VllmServer:
    """A vLLM that answers, behind a socket that only this user can reach. What it says goes to a file without a name:
    its errors may hold a part of a prompt."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, model: str, log: BinaryIO) -> None:
        self._process, self._folder, self._model, self._log = process, folder, model, log
        self._ending = threading.Lock()
        self._death: EngineError | None = None
        self.load_s = 0.0

    @property
    def socket(self) -> Path:
        return self._folder / SOCKET

    @property
    def address(self) -> Address:
        return Address(f"http://{HOST}/v1", self._model, socket=str(self.socket))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def death(self) -> EngineError:
        """Why it no longer answers; it is ended if it still runs. Takes seconds at most."""
        with self._ending:
            if self._death is None:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(ANSWERS_S)
                self._death = died(End(self._process.returncode, self._said()), None, before="vLLM died")
                self._end()
            return self._death

    def end(self) -> None:
        """Harmless for one that has ended."""
        with self._ending:
            self._end()

    def _end(self) -> None:
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(2 * END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()

    def _said(self) -> str:
        if self._log.closed:
            return ""
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, end - LOG_BYTES))
        return self._log.read().decode("utf-8", "replace")


def start(job: VllmJob) -> VllmServer:
    """Returns when it answers, minutes later for a large model. Raises EngineDiedError where it ends before, and
    ResourceError where there is no place for its socket."""
    begun, folder = time.perf_counter(), _folder()
    log = tempfile.TemporaryFile()  # noqa: SIM115  # the server closes it
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", SUPERVISOR, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=log,
        env=environment(os.environ, job.hub_cache),
        start_new_session=True,
    )
    server = VllmServer(process, folder, job.model, log)
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # its death says why
        process.stdin.write(json.dumps(arguments(job, server.socket)).encode() + b"\n")
        process.stdin.flush()
    while not _is_healthy(server.socket):
        if not server.is_alive:
            raise server.death()
        time.sleep(LOOK_S)
    server.load_s = time.perf_counter() - begun
    return server


def _folder() -> Path:
    """For the socket, this user's alone. Raises ResourceError."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="llmctl-vllm-"))
    except OSError as error:
        raise ResourceError(f"{error.filename}: {error.strerror}, and vLLM needs a place for its socket") from error
    if len(os.fsencode(folder / SOCKET)) > LONGEST_PATH:
        folder.rmdir()
        raise ResourceError(f"{folder} is too long a path for a socket", hint="TMPDIR=/tmp llmctl serve …")
    return folder


class _ToSocket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__(HOST, timeout=ANSWERS_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWERS_S)
        self.sock.connect(str(self._path))


def _is_healthy(path: Path) -> bool:
    connection = _ToSocket(path)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
