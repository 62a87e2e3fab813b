"""What a process gives up is gone for it, and a connection that it has goes on."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmctl import confinement
from llmctl.confinement import CALLS, NOT_ASKED, Confinement, NetworkAccess, confine

PR_GET_DUMPABLE = 3  # prctl(2)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what Linux offers for it")
filtered = pytest.mark.skipif(platform.machine() not in CALLS, reason="its system calls are not known")


def in_a_child(work: Callable[[], Any]) -> Any:
    """What ``work`` returns in a copy of this process: what it gives up is given up there alone."""
    source, to = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(to, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(to)
    with os.fdopen(source, "rb") as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def refused(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except PermissionError:
        return True
    return False


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def connected(listening: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_connection(listening.getsockname()) as one, listening.accept()[0] as other:
        yield one, other


@filtered
def test_no_thread_can_make_a_connection(
    listening: socket.socket, connected: tuple[socket.socket, socket.socket]
) -> None:
    address = listening.getsockname()
    mine, theirs = connected
    attempts: dict[str, Callable[[], Any]] = {
        "tcp": lambda: socket.socket(socket.AF_INET),
        "udp": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        "unix": lambda: socket.socket(socket.AF_UNIX),
        "used again": lambda: mine.connect(address),
        "fast open": lambda: mine.sendto(b"x", socket.MSG_FASTOPEN, address),
        "fast open, in parts": lambda: mine.sendmsg([b"x"], [], socket.MSG_FASTOPEN, address),
    }

    def work() -> Any:
        go, in_thread = threading.Event(), list[bool]()

        def later() -> None:
            go.wait()
            in_thread.append(refused(attempts["tcp"]))

        thread = threading.Thread(target=later)
        thread.start()
        given_up = confine(network=NetworkAccess.NOTHING_NEW)
        go.set()
        thread.join()
        theirs.sendall(b"still here")
        outcome = {name: refused(attempt) for name, attempt in attempts.items()}
        return given_up.network, in_thread, outcome, mine.recv(10).decode()

    why_not, in_thread, outcome, received = in_a_child(work)
    assert why_not is None
    assert in_thread == [True]
    assert outcome == dict.fromkeys(attempts, True)
    assert received == "still here"
    socket.socket().close()  # here nothing was given up


@filtered
def test_a_socket_that_listens_goes_on(listening: socket.socket) -> None:
    with socket.create_connection(listening.getsockname()) as client:

        def work() -> Any:
            confine(network=NetworkAccess.NOTHING_NEW)
            accepted, _ = listening.accept()
            accepted.sendall(b"hello")
            return "answered"

        assert in_a_child(work) == "answered"
        assert client.recv(5) == b"hello"


@filtered
def test_a_program_that_makes_its_socket_itself(connected: tuple[socket.socket, socket.socket]) -> None:
    """It may listen, and the program that it starts may; nothing goes out, also not without a connection."""
    address = connected[0].getpeername()
    script = f"import socket; socket.create_server(('127.0.0.1', 0)); socket.create_connection({address!r})"

    def work() -> Any:
        why_not = confine(network=NetworkAccess.LISTEN).network
        with socket.create_server(("127.0.0.1", 0)) as own:
            is_listening = own.getsockname()[1] > 0
        attempts: list[Callable[[], Any]] = [
            lambda: socket.create_connection(address),
            lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).sendto(b"x", socket.MSG_FASTOPEN, address),
            lambda: socket.socket(socket.AF_UNIX).connect("/nowhere"),
        ]
        program = subprocess.run([sys.executable, "-Sc", script], check=False, capture_output=True, text=True)
        return why_not, is_listening, [refused(attempt) for attempt in attempts], program.stderr

    why_not, is_listening, attempts, errors = in_a_child(work)
    assert (why_not, is_listening, attempts) == (None, True, [True] * 4)
    assert "PermissionError" in errors and "create_connection" in errors


def test_no_dumps() -> None:
    def work() -> Any:
        why_not = confine(network=NetworkAccess.ALL).core_dumps
        return why_not, resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(PR_GET_DUMPABLE)

    assert in_a_child(work) == [None, [0, 0], 0]


def test_memory_is_locked_or_it_is_said_why_not() -> None:
    def work() -> Any:
        why_not = confine(network=NetworkAccess.ALL, lock_memory=True).memory_on_disk
        with open("/proc/self/status") as lines:
            locked = next(line.split()[1] for line in lines if line.startswith("VmLck"))
        return why_not, int(locked)

    why_not, locked_kb = in_a_child(work)
    assert (why_not is None) == (locked_kb > 0), why_not
    assert why_not is None or "may be locked" in why_not


def test_what_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert confine(network=NetworkAccess.ALL) == Confinement(confinement.ONLY_LINUX, NOT_ASKED, NOT_ASKED)


def test_an_unknown_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    given_up = in_a_child(lambda: confine(network=NetworkAccess.NOTHING_NEW).network)
    assert given_up == "the system calls of s390x are not known"
