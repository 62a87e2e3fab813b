"""The record of what left this machine: one line for each prompt that was sent to a server, never a word of it.

``receipts.jsonl`` in the data folder. Each line has the sha256 of the line before and its own, so that a line that was
changed, moved or taken out is noticed; the number and sha256 of the last are kept in the state folder as well, so that
lines taken off the end are. ``workspace.receipts`` reads and checks it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from llmctl import paths
from llmctl.errors import LlmctlError, ResourceError
from llmctl.files import atomic
from llmctl.router.partial_answer import PartialAnswer
from llmctl.struct import asdict
from llmctl.types.endpoint import Endpoint, LeaveReason
from llmctl.types.listener import Listener
from llmctl.types.receipt import Outcome, Sent

LINE_BYTES = 64 << 10  # a line has some 400 bytes
END_BYTES = 1024
PATIENCE_S = 10.0  # another process has the lock for as long as a line takes to write
SEALED = re.compile(rb'(\{.*), "sha256": "([0-9a-f]{64})"\}\n?', re.DOTALL)


class LastReceipt(Struct, frozen=True):
    """The last receipt: its number, 0 where there is none, and its sha256."""

    number: int = 0
    sha256: str | None = None


@contextmanager
def recorded(endpoint: Endpoint, why: LeaveReason, so_far: PartialAnswer, listener: Listener) -> Iterator[None]:
    """The prompt is sent to ``endpoint`` meanwhile, for the reason ``why``: however it ends, a receipt of what has left
    is written, none if nothing has. That it can't be written is a warning."""
    so_far.cost = None
    begun, bytes_before = datetime.now(UTC), _bytes_sent(so_far)
    outcome = Outcome.FAILED
    try:
        yield
        outcome = Outcome.ANSWERED
    except LlmctlError:
        outcome = Outcome.FAILED if so_far.first_token is None else Outcome.PARTIAL
        raise
    except (KeyboardInterrupt, GeneratorExit):
        outcome = Outcome.INTERRUPTED
        raise
    finally:
        left, count = so_far.left, _bytes_sent(so_far) - bytes_before
        if left is not None and count:
            sent = Sent(
                time=begun.strftime("%Y-%m-%dT%H:%M:%SZ"),
                endpoint=endpoint.name,
                host=left.host,
                model=endpoint.model,
                bytes=count,
                tls=left.tls,
                pin=endpoint.trust.pin is not None,
                left_because=why,
                outcome=outcome,
                cost=so_far.cost,
                sealed=left.sealed,
            )
            try:
                append(sent)
            except LlmctlError as error:
                listener.warn(f"no receipt of the {count:,} bytes that were sent could be written: {error.message}")


def _bytes_sent(so_far: PartialAnswer) -> int:
    return 0 if so_far.left is None else so_far.left.total_bytes


def append(sent: Sent) -> None:
    """Writes a receipt behind the last one, whichever process has written that. Raises ResourceError."""
    from llmctl.files.lock import locked

    place = file()
    try:
        with locked(place.with_suffix(".lock"), waiting=_impatient()):
            line, end = _sealed(sent, _last(place))
            _write(place, line)
            atomic.write_json(end_file(), asdict(end))
    except OSError as error:
        raise ResourceError(f"{place} can't be written: {error.strerror or error}") from error


def file() -> Path:
    return paths.data_dir() / "receipts.jsonl"


def end_file() -> Path:
    """Where the last receipt's number and sha256 are kept a second time."""
    return paths.state_dir() / "receipts.json"


def kept_end() -> LastReceipt | None:
    """What the state folder has of the last receipt; None where it has nothing that can be read."""
    return atomic.read_json(end_file(), END_BYTES, LastReceipt)


def lines() -> Iterator[bytes]:
    """The lines of the record, the oldest first, each of LINE_BYTES at most. Raises ResourceError."""
    try:
        with file().open("rb") as stream:
            while line := stream.readline(LINE_BYTES):
                yield line
    except FileNotFoundError:
        return
    except OSError as error:
        raise ResourceError(f"{file()} can't be read: {error.strerror or error}") from error


def is_as_written(line: bytes) -> bool:
    """Whether the line has the sha256 of what else it holds."""
    sealed = SEALED.fullmatch(line)
    return sealed is not None and _sha256(sealed[1] + b"}") == sealed[2].decode()


def _sealed(sent: Sent, last: LastReceipt) -> tuple[bytes, LastReceipt]:
    """The line behind the receipt ``last``, and what is kept of it."""
    number = last.number + 1
    content = json.dumps({**asdict(sent), "number": number, "before": last.sha256}).encode()
    sha256 = _sha256(content)
    return content[:-1] + f', "sha256": "{sha256}"}}\n'.encode(), LastReceipt(number, sha256)


def _last(place: Path) -> LastReceipt:
    """The receipt that a new one follows: that of the state folder where the last lines of the record are gone, so that
    the gap stays."""
    line, kept = _last_line(place), kept_end() or LastReceipt()
    return line if line.number > kept.number else kept


def _last_line(place: Path) -> LastReceipt:
    """The last receipt of the record; none where its last line can't be read."""
    try:
        with place.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - LINE_BYTES))
            written = stream.read().splitlines()
    except FileNotFoundError:
        return LastReceipt()
    try:
        return msgspec.json.decode(written[-1], type=LastReceipt) if written else LastReceipt()
    except msgspec.MsgspecError:
        return LastReceipt()


def _write(place: Path, line: bytes) -> None:
    """Appends the line, or leaves the file as it was. Raises OSError."""
    with open(place, "ab+", buffering=0, opener=_private) as out:
        size = out.seek(0, os.SEEK_END)
        if size:
            out.seek(-1, os.SEEK_END)
            if out.read(1) != b"\n":  # its last line was cut off
                line = b"\n" + line
        try:
            if out.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(out.fileno())
        except OSError:
            with suppress(OSError):
                out.truncate(size)
            raise


def _impatient() -> Callable[[], None]:
    """To be called while the lock is waited for: raises ResourceError after PATIENCE_S."""
    until = time.monotonic() + PATIENCE_S

    def waiting() -> None:
        if time.monotonic() > until:
            raise ResourceError(f"another process keeps {file()} locked for more than {PATIENCE_S:g} s")

    return waiting


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)
