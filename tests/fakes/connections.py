"""What a command and all of its children connect to, by Python's own audit events.

environment, seen = watch(tmp_path)
llmctl("doctor", **environment)
seen()                # ["connect ('127.0.0.1', 40123)", "getaddrinfo huggingface.co", ...]
"""

from __future__ import annotations

from collections.abc import Callable
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
