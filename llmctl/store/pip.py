"""``pip download`` of the running interpreter, so that the user's own index, proxy and certificate settings apply."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from llmctl import paths
from llmctl.address import redacted
from llmctl.errors import LlmctlError, NetworkError, NotFoundError, ResourceError

LOOK_S = 0.2
STALL_S = 300.0  # pip has its own time-outs and retries; this is for when it hangs all the same
KEPT_LINES = 40
KEPT_CHARACTERS = 400
UNREACHABLE = re.compile(
    r"connection broken|Max retries exceeded|Connection(Error| refused| reset|.*timed out)|Read timed out"
    r"|Failed to establish|Could not fetch URL|name resolution|ProxyError|SSLError|HTTP error 5\d\d",
    re.IGNORECASE,
)


def download(requirement: str, folder: Path, *, looking: Callable[[], None], source: bool = False) -> Path:
    """Fetches the wheel of ``requirement`` (``name==version``), or with ``source`` its source distribution, into
    ``folder``, which is empty, and returns its path.

    ``looking`` is called every LOOK_S. pip's own temporary files go into ``folder``, too. Raises ResourceError (no
    pip, no room), NetworkError (index unreachable or refusing) and NotFoundError (no such package there).
    """
    if not sys.executable or importlib.util.find_spec("pip") is None:
        raise ResourceError(
            f"{requirement} has to be fetched with pip, which this Python lacks", hint="python -m ensurepip --upgrade"
        )
    # -P keeps the working directory off Python's path
    command = [sys.executable, "-P", "-m", "llmctl.store.pip_child", "download", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off"]
    command += ["--no-binary", requirement.partition("==")[0]] if source else ["--only-binary", ":all:"]
    command += ["-d", str(folder), requirement]
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # never written to: when it closes, pip ends
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**_environment(), "TMPDIR": str(folder)},
        )
    except OSError as error:
        raise ResourceError(
            f"pip could not be started: {error.strerror or error}", hint="python -m ensurepip --upgrade"
        ) from error
    assert child.stdin is not None and child.stderr is not None
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    reader = threading.Thread(target=_listen, args=(child.stderr, lines), daemon=True)
    reader.start()
    try:
        _watch(child, requirement, folder, looking)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        child.stdin.close()
        reader.join(timeout=5)
        child.stderr.close()
    if child.returncode != 0:
        raise _failure(requirement, list(lines))
    archives = sorted(folder.glob("*.tar.gz" if source else "*.whl"))
    if len(archives) != 1:
        kind = "source distributions" if source else "wheels"
        raise NotFoundError(
            f"pip brought {len(archives)} {kind} for {requirement}, one was expected", hint=_settings(requirement)
        )
    return archives[0]


def largest_file_bytes(folder: Path) -> int:
    """How far pip is: it fills one file, and then copies it. Files that vanish meanwhile don't count."""
    largest = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, (Path(place) / name).stat().st_size)
            except OSError:
                continue
    return largest


def _watch(child: subprocess.Popen[bytes], requirement: str, folder: Path, looking: Callable[[], None]) -> None:
    grown_bytes, grown_at_s = 0, time.monotonic()
    while True:
        try:
            child.wait(timeout=LOOK_S)
        except subprocess.TimeoutExpired:
            looking()
            now_s = time.monotonic()
            if (size_bytes := largest_file_bytes(folder)) != grown_bytes:
                grown_bytes, grown_at_s = size_bytes, now_s
            elif now_s - grown_at_s > STALL_S:
                raise NetworkError(
                    f"fetching {requirement}: nothing has come from the package index for {STALL_S:.0f} s",
                    hint=_settings(requirement),
                ) from None
        else:
            return


def _listen(stream: BinaryIO, lines: deque[str]) -> None:
    while line := stream.readline(1 << 16):
        if text := redacted(line.decode("utf-8", "replace").strip()):
            lines.append(text[:KEPT_CHARACTERS])


def _environment() -> dict[str, str]:
    """The user's own, for the index's settings are in it; but the token of the model hub is none of pip's business."""
    return {name: value for name, value in os.environ.items() if name not in paths.HUB_TOKEN_VARIABLES}


def _failure(requirement: str, lines: list[str]) -> LlmctlError:
    everything = "\n".join(lines)
    hint = _settings(requirement)
    if "No space left on device" in everything or "Disk quota exceeded" in everything:
        return ResourceError(f"the disk ran full while pip fetched {requirement}", hint="free some space and try again")
    if UNREACHABLE.search(everything):
        return NetworkError(f"fetching {requirement}: the package index can't be reached ({_reason(lines)})", hint=hint)
    if "(from versions: none)" in everything:  # pip says the same of an index that is empty and one that is unreachable
        return NetworkError(f"the package index can't be reached, or has no wheel of {requirement}", hint=hint)
    if "No matching distribution" in everything:
        return NotFoundError(f"the package index has no wheel for {requirement}", hint=hint)
    return NetworkError(f"fetching {requirement}: pip failed ({_reason(lines)})", hint=hint)


def _settings(requirement: str) -> str:
    return f"check pip's settings: python -m pip config list; python -m pip download {requirement}"


def _reason(lines: list[str]) -> str:
    """The words that say most: what the system said of a connection, else pip's first error, else its last word."""
    for line in lines:
        if match := re.search(r"\[Errno -?\d+\] ([^'\")\]]+)", line):
            return match[1]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines[-1:] or ["it said nothing"])[0].removeprefix("ERROR: ")[:160]
