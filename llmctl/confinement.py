"""What a process of llmctl's gives up before it is told anything, so that nothing of it can leave the process by the
operating system: dumps of its memory, its memory on a disk, and new connections.

The network is refused by a seccomp filter, which reaches every thread of a process that runs, whatever it has loaded.
Landlock does not: its rules know TCP alone, and hold for threads that start afterwards. The libraries for both on the
package index are unfinished, or need a system library that not every distribution has, so the filter is made here:
some thirty instructions, for the processors that llmctl is built for.
"""

from __future__ import annotations

import errno
import os
import platform
import struct
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from msgspec import Struct

PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38  # prctl(2)
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4  # mlockall(2)
CAP_IPC_LOCK = 14  # capabilities(7)
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC = 1, 1  # seccomp(2)
RET_ALLOW, RET_REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
LOAD, AND, RETURN = 0x20, 0x54, 0x06  # classic BPF: words, constants
JUMP_EQUAL, JUMP_LEAST, JUMP_BITS = 0x15, 0x35, 0x45
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in what a filter sees of a call (struct seccomp_data)
MSG_FASTOPEN = 0x20000000  # connects by sending
SOCK_STREAM, SOCK_TYPE_MASK = 1, 0xF  # socket(2)
X32 = 0x40000000  # from here on the numbers are those of x86-64's calls once more
IO_URING_SETUP = 425  # what it offers is done without calls
ONLY_LINUX = "this operating system offers nothing for it that llmctl uses"


class SystemCalls(Struct, frozen=True):
    """The numbers that one architecture has for the calls which make or use a connection, and for ``seccomp``."""

    audit: int
    socket: int
    connect: int
    sendto: int
    sendmsg: int
    sendmmsg: int
    seccomp: int


CALLS = {
    "x86_64": SystemCalls(0xC000003E, 41, 42, 44, 46, 307, 317),
    "aarch64": SystemCalls(0xC00000B7, 198, 203, 206, 211, 269, 277),
}


class NetworkAccess(StrEnum):
    """What is left to a process: all, sockets that others connect to, or those alone that it has."""

    ALL = "all"
    LISTEN = "listen"
    NOTHING_NEW = "nothing new"


class Confinement(Struct, frozen=True):
    """Why a process did not give something up: None where it did."""

    core_dumps: str | None
    memory_on_disk: str | None
    network: str | None


NOT_ASKED = "not asked for"


def confine(*, network: NetworkAccess, lock_memory: bool = False) -> Confinement:
    """Gives up dumps, connections of its own making as ``network`` says, and the memory's way to the disk where it is
    to be locked. What the system refuses is said, and the process goes on."""
    return Confinement(
        core_dumps=_tried(_forbid_core_dumps),
        memory_on_disk=_tried(_lock_memory) if lock_memory else NOT_ASKED,
        network=NOT_ASKED
        if network is NetworkAccess.ALL
        else forbid_connections(may_listen=network is NetworkAccess.LISTEN),
    )


def forbid_connections(*, may_listen: bool) -> str | None:
    """Why a filter can't be set that holds for this process, all its threads and whatever it starts, None where it is;
    ``may_listen``: a program that is about to be started makes its sockets itself."""
    return _tried(lambda system: _filter_calls(system, may_listen=may_listen))


def _tried(give_up: Callable[[Any], str | None]) -> str | None:
    """Why it can't be given up. ``give_up`` gets the system's library."""
    if sys.platform != "linux":
        return ONLY_LINUX
    import ctypes

    try:
        return give_up(ctypes.CDLL(None, use_errno=True))
    except (OSError, AttributeError, ValueError) as error:  # a library without the call; a limit that can't be set
        return str(error)


def _forbid_core_dumps(system: Any) -> str | None:
    """Neither a file by the limit of its size, nor one by a program that collects dumps, which ignores that limit; and
    no other process of the user may read this one's memory."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return _outcome(system.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))


def _lock_memory(system: Any) -> str | None:
    import resource

    limit_bytes, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit_bytes != resource.RLIM_INFINITY and not _may_lock():
        return f"at most {limit_bytes:,} bytes may be locked: ulimit -l unlimited allows all"
    return _outcome(system.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT))


def _may_lock() -> bool:
    """Whether this process may lock more than its limit."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:  # noqa: PTH123
        held = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(held, 16) >> CAP_IPC_LOCK & 1)


def _filter_calls(system: Any, *, may_listen: bool) -> str | None:
    import ctypes

    calls = CALLS.get(platform.machine())
    if calls is None:
        return f"the system calls of {platform.machine()} are not known"
    if (why := _outcome(system.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))) is not None:
        return why
    code = connection_filter(calls, may_listen=may_listen)
    instructions = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions))
    refused = system.syscall(calls.seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, program)
    return "a thread has a filter of its own" if refused > 0 else _outcome(refused)


def _outcome(code: int) -> str | None:
    import ctypes

    return None if code == 0 else os.strerror(ctypes.get_errno())


def connection_filter(calls: SystemCalls, *, may_listen: bool) -> bytes:
    """A program of the kernel's packet filter, which refuses (EPERM) whatever makes a connection: sockets that are
    there go on taking those of others, and with ``may_listen`` there may be more that can. Calls of another
    architecture, which a process can make too, are refused."""
    tests = [
        (LOAD, ARCHITECTURE, None, None),
        (JUMP_EQUAL, calls.audit, None, "refuse"),
        (LOAD, NUMBER, None, None),
        (JUMP_LEAST, X32, "refuse", None),
        *((JUMP_EQUAL, number, "refuse", None) for number in (calls.connect, IO_URING_SETUP)),
        (JUMP_EQUAL, calls.socket, "kind of socket" if may_listen else "refuse", None),
        (JUMP_EQUAL, calls.sendto, "flags of sendto", None),
        (JUMP_EQUAL, calls.sendmmsg, "flags of sendto", None),
        (JUMP_EQUAL, calls.sendmsg, "flags of sendmsg", "allow"),
    ]
    arguments = [
        (LOAD, ARGUMENTS + 2 * 8, None, None),
        (JUMP_BITS, MSG_FASTOPEN, "refuse", "allow"),
        (LOAD, ARGUMENTS + 3 * 8, None, None),
        (JUMP_BITS, MSG_FASTOPEN, "refuse", "allow"),
        (LOAD, ARGUMENTS + 1 * 8, None, None),
        (AND, SOCK_TYPE_MASK, None, None),
        (JUMP_EQUAL, SOCK_STREAM, "allow", "refuse"),  # others send without a connection
        (RETURN, RET_ALLOW, None, None),
        (RETURN, RET_REFUSE, None, None),
    ]
    first = len(tests)
    places = {
        "flags of sendmsg": first,
        "flags of sendto": first + 2,
        "kind of socket": first + 4,
        "allow": first + 7,
        "refuse": first + 8,
    }

    def distance(at: int, to: str | None) -> int:
        return 0 if to is None else places[to] - at - 1

    return b"".join(
        struct.pack("@HBBI", code, distance(at, yes), distance(at, no), value)
        for at, (code, value, yes, no) in enumerate([*tests, *arguments])
    )
