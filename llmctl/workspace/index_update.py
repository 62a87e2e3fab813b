"""An index, made as its folder is: what is new is read, what is gone removed; a killed update goes on next time."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path

from msgspec import Struct

from llmctl.errors import NotFoundError
from llmctl.printable import printable
from llmctl.retrieval.changes import by_content, changes
from llmctl.retrieval.folder import FolderFile, files_of
from llmctl.retrieval.passages import passages
from llmctl.retrieval.text_index import IndexedFile, Skipped, TextIndex, whole
from llmctl.shell import command
from llmctl.types.listener import Listener
from llmctl.workspace import file_text, mail
from llmctl.workspace.file_text import FileText, NoTextError
from llmctl.workspace.indexes import NamedIndex

KEPT_EVERY_S = 0.5  # so much work at most is done again after a kill
LIMIT, UPDATED = "limit", "updated"
LIMIT_BYTES = 16 << 20


class Updated(Struct, frozen=True):
    """What an update has done, in files. ``skipped`` has how many are left out for each reason, those of earlier
    updates too; ``other_encoding`` of the files that were read are not UTF-8."""

    new: int
    changed: int
    renamed: int
    removed: int
    unchanged: int
    ignored: int
    other_encoding: int
    skipped: Mapping[str, int]
    seconds: float

    @property
    def has_changed(self) -> bool:
        return bool(self.new or self.changed or self.renamed or self.removed)


def updated(listener: Listener, named: NamedIndex, index: TextIndex) -> Updated:
    """Makes ``index`` as its folder is. The caller keeps other processes from changing it. Raises NotFoundError where
    the folder is gone, and what the index raises."""
    if not named.root.is_dir():
        raise NotFoundError(
            f"the folder of the index {named.name} is not there: {printable(str(named.root))}",
            hint=command("llmctl", "index", "remove", names=[named.name]),
        )
    begun_s = time.monotonic()
    now = files_of(named.root)
    for unlisted in now.unreadable:
        listener.warn(f"{printable(str(named.root / unlisted))} can't be listed: what is in it stays as it was")
    indexed = index.files()
    to_do = changes(now, indexed)
    updating = _Update(index, named.root, int(index.about(LIMIT) or LIMIT_BYTES), indexed, to_do.gone)
    total_bytes = sum(file.size_bytes for file in to_do.unread)
    done_bytes = 0
    with updating.kept_now_and_then(), listener.progress(named.name) as progress:
        for file in to_do.unread:
            updating.read(file)
            done_bytes += file.size_bytes
            progress(done_bytes, total_bytes)
        updating.remove_gone()
        index.note(UPDATED, str(int(time.time())))
    done = updating.done
    return Updated(
        new=done["new"],
        changed=done["changed"],
        renamed=done["renamed"],
        removed=done["removed"],
        unchanged=to_do.unchanged + done["unchanged"],
        ignored=now.ignored,
        other_encoding=done["other_encoding"],
        skipped=_skipped(index),
        seconds=time.monotonic() - begun_s,
    )


def _skipped(index: TextIndex) -> dict[str, int]:
    rows = index.rows("SELECT skipped, count(*) FROM file WHERE skipped IS NOT NULL GROUP BY 1 ORDER BY 1")
    return {str(why): whole(number) for why, number in rows}


class _Update:
    """One update. ``done`` counts files."""

    def __init__(
        self,
        index: TextIndex,
        root: Path,
        limit_bytes: int,
        indexed: Mapping[str, IndexedFile],
        gone: Iterable[IndexedFile],
    ) -> None:
        self._index, self._root, self._limit_bytes, self._indexed = index, root, limit_bytes, indexed
        self._gone = {file.id: file for file in gone}
        self._gone_by_content = by_content(self._gone.values())
        self.done: Counter[str] = Counter()
        self._writing = ExitStack()
        self._kept_s = 0.0

    @contextmanager
    def kept_now_and_then(self) -> Iterator[None]:
        """What is written meanwhile is kept every KEPT_EVERY_S, and at the end."""
        with self._writing:
            self._begin()
            yield

    def _begin(self) -> None:
        self._writing.enter_context(self._index.transaction())
        self._kept_s = time.monotonic()

    def _keep(self) -> None:
        if time.monotonic() - self._kept_s >= KEPT_EVERY_S:
            self._writing.close()
            self._begin()

    def read(self, file: FolderFile) -> None:
        """Puts the file into the index, whose content may be in it under another name or time."""
        path, before = self._root / file.path, self._indexed.get(file.path)
        try:
            if file.size_bytes > file_text.most_bytes(path, self._limit_bytes):
                raise NoTextError(Skipped.TOO_LARGE)
            sha256 = _sha256(path)
        except FileNotFoundError:
            return  # the next update removes it
        except (OSError, NoTextError) as error:
            self._skip(file, before, None, error.why if isinstance(error, NoTextError) else Skipped.UNREADABLE)
            return
        if before is not None and before.sha256 == sha256 and before.skipped is not Skipped.NEEDS_EXTRA:
            self._index.touch(before, file)
            self.done["unchanged"] += 1
        elif before is None and (moved := self._moved(sha256)) is not None:
            self._index.rename(moved, file)
            self.done["renamed"] += 1
        else:
            self._put(file, before, sha256)
        self._keep()

    def _put(self, file: FolderFile, before: IndexedFile | None, sha256: bytes) -> None:
        try:
            text = _text(self._root / file.path)
            read = list(passages(text.sections))
        except OSError:
            self._skip(file, before, sha256, Skipped.UNREADABLE)
        except NoTextError as error:
            self._skip(file, before, sha256, error.why)
        else:
            self._replace(before)
            self._index.add(file, sha256, read)
            self.done["new" if before is None else "changed"] += 1
            self.done["other_encoding"] += not text.is_utf8

    def _skip(self, file: FolderFile, before: IndexedFile | None, sha256: bytes | None, why: Skipped) -> None:
        if before is not None and before.skipped is None:
            self.done["changed"] += 1
        self._replace(before)
        self._index.add_skipped(file, sha256, why)

    def _replace(self, before: IndexedFile | None) -> None:
        if before is not None:
            self._index.remove(before)

    def _moved(self, sha256: bytes) -> IndexedFile | None:
        """The file that has had this content, and is no longer where it was."""
        moved = self._gone_by_content.pop(sha256, None)
        return None if moved is None else self._gone.pop(moved.id)

    def remove_gone(self) -> None:
        for file in self._gone.values():
            self._index.remove(file)
            self.done["removed"] += 1
            self._keep()


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """The file, unless it has become a link or a pipe since. Raises OSError."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
        yield file


def _sha256(path: Path) -> bytes:
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").digest()


def _text(path: Path) -> FileText:
    """Raises NoTextError and OSError."""
    with _opened(path) as file:
        if not file_text.is_mailbox(path):
            return file_text.text_of(path, file.read())
        return FileText(tuple(mail.message_texts(file)))
