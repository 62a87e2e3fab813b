"""What a command and all of its children connect to: by Python's own audit events, or as the kernel is asked.

environment, seen = watch(tmp_path)
llmctl("doctor", **environment)
seen()                # ["connect ('127.0.0.1', 40123)", "getaddrinfo huggingface.co", ...]

prefix, seen = trace(tmp_path)
subprocess.run([*prefix, "llmctl", "doctor"])
seen()                # ["127.0.0.1:40123", "192.0.2.1:53", ...]
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

HOOK = """
import sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        target = arguments[0] if event == "socket.getaddrinfo" else arguments[-1]
        with open({log!r}, "a") as out:
            out.write(f"{{event.partition('.')[2]}} {{target}}\\n")

sys.addaudithook(watch)
"""


def watch(folder: Path) -> tuple[str, Callable[[], list[str]]]:
    """The PYTHONPATH to start the command with, and what gives the connections seen so far."""
    log, hook = folder / "connections", folder / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK.format(log=str(log)))
    return str(hook), lambda: log.read_text().splitlines() if log.exists() else []


PEER = re.compile(r"sin6?_port=htons\((?P<port>\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )\"(?P<address>[^\"]+)\"")
STRACE = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "signal=none", "-e", "trace=connect,sendto,sendmsg,sendmmsg"]


@cache
def _traces() -> bool:
    """Whether there is strace and it may be used here."""
    if shutil.which(STRACE[0]) is None:
        return False
    return subprocess.run([*STRACE, "-o", os.devnull, "true"], check=False, capture_output=True).returncode == 0


def trace(folder: Path) -> tuple[list[str], Callable[[], list[str]]]:
    """The command to put before another one, and what gives the addresses that it and its children have connected or
    sent to since it was asked before, each with its port. Without strace nothing is put before, and none is seen."""
    if not _traces():
        return [], list
    log, read = folder / "trace", 0
    log.touch()

    def seen() -> list[str]:
        nonlocal read
        text = log.read_text()
        new, read = text[read:], len(text)
        return [f"{peer['address']}:{peer['port']}" for peer in PEER.finditer(new)]

    return [*STRACE, "-o", str(log)], seen
