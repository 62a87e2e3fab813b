"""Headers of files on the hub: only their bytes travel, and only once.

The first part of a model, whose header holds the vocabulary (1 to 13 MB), comes in ranges of RANGE_BYTES; the others,
whose headers hold a table of tensors (some KB), in ranges of PART_RANGE_BYTES. So a header costs at most its own size
rounded up to the next range; a server without ranges is left as soon as the header is complete.

What can't be checked: hubs state the sha256 of a file, not of its header. A header that was tampered with makes a wrong
plan; what is run is hashed as a whole before.

The bytes are kept as they came, as a file that holds a header only: ``gguf.header.read_file`` and the engine's dry run
take those. They count for the place that they came from alone: hub, repository, name, and the sha256 that is stated
there, so that a revision that leaves the file alone costs nothing, else the commit. Another repository may state the
same sha256 and send another header.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from llmctl import net
from llmctl.errors import IntegrityError, LlmctlError, NetworkError, UnsupportedFileError
from llmctl.gguf.header import read_file, read_header
from llmctl.gguf.shards import joined
from llmctl.hub import header_cache
from llmctl.hub.ranged_reader import RangedReader
from llmctl.settings import Settings
from llmctl.shell import command
from llmctl.types.header import Header
from llmctl.types.model import Source

RANGE_BYTES = 1 << 20
PART_RANGE_BYTES = 64 << 10
MAX_HEADER_BYTES = 64 << 20  # the most that travels; the largest header met so far has 13 MB


def read(parts: Sequence[Source], settings: Settings) -> Header:
    """The header of the model whose files are ``parts``, pinned to a commit: all their tensors, the first one's
    metadata. What is kept needs no network.

    Raises OfflineError, NetworkError, AccessError, NotFoundError, IntegrityError for what isn't a sound GGUF file, and
    UnsupportedFileError for what is sound and can't be read.
    """
    with net.Sessions() as sessions:
        headers = [
            _header(part, settings, sessions, PART_RANGE_BYTES if index else RANGE_BYTES)
            for index, part in enumerate(parts)
        ]
    return joined(headers, [_label(part) for part in parts])


def cached(source: Source, settings: Settings) -> Path | None:
    """The cached header of ``source``, as a file of its own; None if there is none."""
    file = header_cache.path_of(_name(source, settings))
    return file if file.is_file() else None


def _header(source: Source, settings: Settings, sessions: net.Sessions, range_bytes: int) -> Header:
    if (file := cached(source, settings)) is not None:
        try:
            header = read_file(file, whole=False)
        except LlmctlError:
            pass  # damaged, or gone just now: fetched again
        else:
            header_cache.mark_used(file)
            return header
    settings.require_network(f"the header of {_label(source)}")
    reader = RangedReader(source, settings=settings, sessions=sessions, range_bytes=range_bytes)
    try:
        reader.start()
        header = read_header(reader, size_bytes=reader.total_bytes, limit_bytes=MAX_HEADER_BYTES)
    except (IntegrityError, UnsupportedFileError) as error:
        hint = command("llmctl", "plan", names=[source.repo or ""])
        raise type(error)(f"{_label(source)} {error.message}", hint=hint) from error
    except NetworkError as error:
        error.hint = error.hint or "run the same command again, or plan for what is here: llmctl plan"
        raise
    finally:
        reader.close()
    raw = reader.received
    del raw[header.data_offset :]
    raw.extend(bytes(header.data_offset - len(raw)))  # padding that was not read
    header_cache.write(_name(source, settings), raw)
    return header


def _name(source: Source, settings: Settings) -> str:
    place = (settings.hub_url.rstrip("/"), source.repo or "", source.file, source.sha256 or source.revision)
    return f"{hashlib.sha256(chr(0).join(place).encode()).hexdigest()}.gguf"


def _label(source: Source) -> str:
    return f"{source.repo}/{source.file}"
