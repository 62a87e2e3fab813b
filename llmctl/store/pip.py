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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from llmctl import paths
from llmctl.address import redacted
from llmctl.errors import IntegrityError, LlmctlError, NetworkError, NotFoundError, ResourceError

LOOK_S = 0.2
STALL_S = 300.0  # pip has its own time-outs and retries; this is for when it hangs all the same
KEPT_LINES = 40
KEPT_CHARACTERS = 400


class KnownFailure(Struct, frozen=True):
    """What pip says, as a pattern, and the error that this is. ``message`` has ``{what}`` for what is fetched and
    ``{why}`` for pip's reason; without ``hint``: to look at pip's settings."""

    said: str
    error: type[LlmctlError]
    message: str
    hint: str | None = None


# The first that fits. Disks before connections: of a full one pip says "Connection broken: … No space left on device".
KNOWN_FAILURES = (
    KnownFailure(
        "No space left on device|Disk quota exceeded",
        ResourceError,
        "the disk ran full while pip fetched {what}",
        "free some space and try again",
    ),
    KnownFailure(
        "File too large",
        ResourceError,
        "{what}: pip may not write a file that large",
        "ulimit -f unlimited   (or another filesystem: export XDG_DATA_HOME=/path)",
    ),
    KnownFailure("(Read-only file system|Permission denied): '", ResourceError, "pip can't write {what}: {why}"),
    KnownFailure(
        "Cannot allocate memory|MemoryError",
        ResourceError,
        "there is not enough memory for pip to fetch {what}",
        "end other programs and try again",
    ),
    KnownFailure(
        "do not match the hashes|BadZipFile|^ERROR: Wheel .* is invalid",
        IntegrityError,
        "{what} from the package index is damaged ({why})",
    ),
    KnownFailure(
        r"connection broken|Max retries exceeded|Connection(Error| refused| reset|.*timed out)|Read timed out"
        r"|Failed to establish|Could not fetch URL|name resolution|ProxyError|SSLError|HTTP error 5\d\d",
        NetworkError,
        "fetching {what}: the package index can't be reached ({why})",
    ),
    KnownFailure(  # pip says the same of an index that is empty and one that is unreachable
        r"\(from versions: none\)", NetworkError, "the package index can't be reached, or has no {what} for this Python"
    ),
    KnownFailure("No matching distribution", NotFoundError, "the package index has no {what} for this Python"),
)


def download(requirement: str, folder: Path, *, looking: Callable[[], None], source: bool = False) -> Path:
    """Fetches the wheel of ``requirement`` (``name==version``), or with ``source`` its source distribution, into
    ``folder``, which is empty, and returns its path.

    ``looking`` is called every LOOK_S. pip's own temporary files go into ``folder``, too. Raises ResourceError (no
    pip, no room), NetworkError (index unreachable or refusing), NotFoundError (no such package there) and
    IntegrityError (what came is damaged).
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
    known = known_failure(requirement, lines)
    return known or NetworkError(f"fetching {requirement}: pip failed ({_reason(lines)})", hint=_settings(requirement))


def known_failure(requirement: str, lines: Sequence[str]) -> LlmctlError | None:
    """The error that pip's ``lines`` tell of; None where it is no known one."""
    everything = "\n".join(lines)
    for known in KNOWN_FAILURES:
        if re.search(known.said, everything, re.IGNORECASE | re.MULTILINE):
            message = known.message.format(what=requirement, why=_reason(lines))
            return known.error(message, hint=known.hint or _settings(requirement))
    return None


def _settings(requirement: str) -> str:
    return f"check pip's settings: python -m pip config list; python -m pip download {requirement}"


def _reason(lines: Sequence[str]) -> str:
    """The words that say most: what the system said of a connection, else pip's first error, else its last word."""
    for line in lines:
        if match := re.search(r"\[Errno -?\d+\] ([^'\")\]]+)", line):
            return match[1]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or [*lines[-1:], "it said nothing"])[0].removeprefix("ERROR: ")[:160]
