"""Beginnings of long prompts on disk: what llama.cpp has computed of them, so that nobody reads them twice.

A file is what ``llama_state_seq_save_file`` writes (its tokens first, then keys and values), followed by a signature
of all of it and of the model and settings that it is for, with a key that this user's llmctl alone has. llama.cpp sees
only files whose signature is right: a file that was cut, altered or made elsewhere is removed. Files are the user's
alone (0600 in a folder of 0700), and those that were used least recently go when all take more than the limit.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
import struct
import time
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from msgspec import Struct

from llmctl import paths
from llmctl.engine.llama_cpp.slots import LEAST_FRESH, shared_length
from llmctl.types.plan import Configuration

LEAST_TOKENS = 1024  # of a prompt: shorter ones are read in the time that a file takes
STEP_TOKENS = 256  # a beginning ends at a multiple of this, so that another question about the same text begins with it
MOST_TOKENS = 1 << 22
HEAD = struct.Struct("=III")  # magic number, version and count of tokens, as llama.cpp writes them
SIGNATURE_BYTES = hashlib.sha256().digest_size
KEY_BYTES = 32
READ_BYTES = 1 << 20
SUFFIX, UNFINISHED = ".prompt", ".new"
UNFINISHED_S = 3600.0  # after which a file that is being written is taken for left behind


class Beginning(Struct, frozen=True):
    """The first ``tokens`` of a prompt, which are in ``file``; ``shared`` of them are those of the prompt asked for."""

    file: Path
    tokens: Sequence[int]
    shared: int


@dataclass(eq=False)
class OnDisk:
    """What a prompt has to do with files: ``source`` holds its beginning, and the first ``write_at`` of its tokens are
    to be written to ``target``, which has happened if ``is_written``."""

    source: Beginning | None = None
    target: Path | None = None
    write_at: int = 0
    is_written: bool = False


class PromptCache:
    """The files of one model with one set of settings, which ``identity`` stands for. ``can_cut`` as in
    ``Context.can_cut_saved``: where it can't, only a file of which the prompt has every token is of use."""

    def __init__(self, identity: str, *, can_cut: bool) -> None:
        self._identity = identity.encode()
        self._prefix = hashlib.sha256(self._identity).hexdigest()[:16]
        self._can_cut = can_cut

    def plan(self, prompt: Sequence[int], *, held: int) -> OnDisk:
        """What to read and to write for ``prompt``, of which some sequence holds ``held`` tokens."""
        write_at = (len(prompt) - LEAST_FRESH) // STEP_TOKENS * STEP_TOKENS
        if len(prompt) < LEAST_TOKENS:
            return OnDisk()
        source = self._find(prompt, least=held + STEP_TOKENS)
        read = held if source is None else source.shared
        target = self._create() if held < write_at and write_at - read >= LEAST_TOKENS - STEP_TOKENS else None
        return OnDisk(source, target, write_at if target is not None else 0)

    def _find(self, prompt: Sequence[int], *, least: int) -> Beginning | None:
        """The longest beginning of ``prompt`` with at least so many tokens of it. What isn't ours is removed."""
        with suppress(OSError):
            read = (_beginning(file, prompt) for file in _files(f"{self._prefix}-*"))
            usable = [made for made in read if made and made.shared >= (least if self._can_cut else len(made.tokens))]
            for best in sorted(usable, key=lambda made: made.shared, reverse=True):
                if best.shared < least:
                    return None
                if self._is_ours(best.file):
                    os.utime(best.file)
                    return best
                best.file.unlink(missing_ok=True)
        return None

    def _create(self) -> Path | None:
        """An empty file for llama.cpp to write to; None where there can be none."""
        with suppress(OSError):
            folder = place()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = folder / f"{self._prefix}-{os.urandom(8).hex()}{UNFINISHED}"
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
            return file
        return None

    def finish(self, on_disk: OnDisk, limit_bytes: int) -> None:
        """Signs what was written, and makes room for it; write errors are ignored, and so is what exceeds the limit."""
        unfinished, on_disk.target = on_disk.target, None  # nothing is written from here on, if nothing was
        if unfinished is None:
            return
        try:
            if not on_disk.is_written:
                return
            with unfinished.open("r+b") as file:
                signature = self._signed(file, os.fstat(file.fileno()).st_size)
                file.write(signature)
            if unfinished.stat().st_size <= limit_bytes:
                unfinished.replace(unfinished.with_suffix(SUFFIX))
            _make_room(limit_bytes)
        except OSError:
            pass
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)

    def _is_ours(self, path: Path) -> bool:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size - SIGNATURE_BYTES
            return length > HEAD.size and hmac.compare_digest(self._signed(file, length), file.read(SIGNATURE_BYTES))

    def _signed(self, file: BinaryIO, length: int) -> bytes:
        """The signature of the next ``length`` bytes of ``file``."""
        signature = hmac.new(_key(), self._identity, "sha256")
        while length and (read := file.read(min(length, READ_BYTES))):
            signature.update(read)
            length -= len(read)
        return signature.digest()


def identity_of(job: Mapping[str, Any], build: str) -> str:
    """Stands for the model's file as it is now, the settings that its cache depends on, and the engine's build."""
    file = Path(job["file"])
    about = file.stat()
    settings = {name: job[name] for name in Configuration.__struct_fields__ if name not in ("context", "sequences")}
    parts = [str(file.resolve()), about.st_size, about.st_mtime_ns, build, settings]
    return json.dumps(parts, sort_keys=True)


def place() -> Path:
    """The folder of all these files."""
    return paths.cache_dir() / "prompts"


def forget() -> int:
    """Removes every file and the key that signs them; the bytes that are free then. Raises OSError."""
    freed = 0
    for file in [*_files("*"), *place().glob(f"*{UNFINISHED}")]:
        with suppress(FileNotFoundError):
            freed += file.stat().st_size
            file.unlink()
    _key_file().unlink(missing_ok=True)
    return freed


def _files(pattern: str) -> list[Path]:
    """The finished files, of a folder that is the user's alone."""
    folder = place()
    if not folder.is_dir() or folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        return []
    return list(folder.glob(f"{pattern}{SUFFIX}"))


def _beginning(path: Path, prompt: Sequence[int]) -> Beginning | None:
    """What a file says that it holds, before its signature was looked at."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return None
    with suppress(OSError), path.open("rb") as file:
        head = file.read(HEAD.size)
        if len(head) < HEAD.size or not 0 < (count := HEAD.unpack(head)[2]) <= MOST_TOKENS:
            return None
        tokens = array("i")
        read = file.read(count * tokens.itemsize)
        if len(read) == count * tokens.itemsize:
            tokens.frombytes(read)
            held = tokens.tolist()
            return Beginning(path, held, shared_length(held, prompt))
    return None


def _make_room(limit_bytes: int) -> None:
    taken = 0
    for file in sorted(_files("*"), key=lambda file: file.stat().st_mtime, reverse=True):
        taken += file.stat().st_size
        if taken > limit_bytes:
            file.unlink(missing_ok=True)
    for file in place().glob(f"*{UNFINISHED}"):
        if time.time() - file.stat().st_mtime > UNFINISHED_S:
            file.unlink(missing_ok=True)


def _key_file() -> Path:
    return paths.state_dir() / "prompts.key"


def _key() -> bytes:
    """The key that signs files, made if need be. Raises OSError."""
    place = _key_file()
    with suppress(FileNotFoundError):
        key = place.read_bytes()
        if len(key) == KEY_BYTES:
            return key
        place.unlink()
    from llmctl.files import atomic

    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    atomic.write(place, os.urandom(KEY_BYTES))
    return place.read_bytes()
