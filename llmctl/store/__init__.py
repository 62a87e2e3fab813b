"""Model files on this machine: what is here, and what is copied from elsewhere on it.

Hub files live in the hub cache's own layout, which other tools share; what comes from elsewhere lives in llmctl's
data folder. What other tools keep in places of their own is found there, and never written to.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from llmctl import paths
from llmctl.errors import LlmctlError, UsageError
from llmctl.gguf.file_names import is_projector
from llmctl.gguf.shards import shard_names
from llmctl.store import bundles, hub_cache, unvouched, wheels
from llmctl.store.foreign import find as elsewhere
from llmctl.store.hub_cache import Unfinished
from llmctl.store.layout import Repository
from llmctl.store.stored import Owner, Stored
from llmctl.types.listener import Progress
from llmctl.types.model import Source, SourceKind

if TYPE_CHECKING:
    from llmctl.settings import Settings
    from llmctl.store.carry import Label
    from llmctl.store.upkeep.prune import Leftover
    from llmctl.store.upkeep.verify import Verdict

__all__ = ["Owner", "Progress", "Store", "Stored", "Unfinished"]


class Store:
    """The folders are looked up once, when the store is made, and those of other tools when they are first needed."""

    def __init__(self) -> None:
        self.hub = paths.hub_cache()
        self.models = paths.data_dir() / "models"

    def require_disks(self) -> None:
        """Raises ResourceError if the store was on a disk that isn't mounted now."""
        from llmctl.store import disk_present

        for root in (self.hub, self.models):
            disk_present.check(root)

    @cached_property
    def _others(self) -> tuple[Stored, ...]:
        return (*bundles.sources(self.models), *elsewhere.all_files(self.hub))

    def find(self, source: Source) -> Path | None:
        """The file of ``source`` on this machine, or None. No network and no hashing; sizes are checked if known."""
        try:
            match source.kind:
                case SourceKind.HUB:
                    if len(names := shard_names(source.file)) > 1:
                        return self._find_parts(source, names)
                    place = hub_cache.find(self.hub, source)
                case SourceKind.PACKAGE_INDEX:
                    place = wheels.find(self.models, source)
                case SourceKind.LOCAL:
                    path = Path(source.file)
                    same = path.is_file() and source.bytes in (None, path.stat().st_size)
                    return path if same else None
            return place or elsewhere.find(self._others, source)
        except (LlmctlError, OSError, ValueError):
            return None  # a name that can't be a path is nowhere; `add` says so

    def _find_parts(self, source: Source, names: Sequence[str]) -> Path | None:
        """The first part of a split model whose parts are all here, side by side."""
        parts = [hub_cache.find(self.hub, replace(source, file=name, bytes=None, sha256=None)) for name in names]
        return parts[0] if all(parts) and len({part.parent for part in parts if part}) == 1 else None

    def holding(self, source: Source, *, alone: bool) -> Path | None:
        """The file of a commit of a repository: in that commit's snapshot, or with another tool if it stands
        ``alone``, for the parts of a model have to lie side by side."""
        pointer = Repository(self.hub, source.repo or "").pointer(source.revision, source.file)
        if hub_cache.find(self.hub, source) == pointer:
            return pointer
        return elsewhere.find(self._others, source) if alone else None

    def add_files(self, files: Sequence[Path], label: Label, *, sha256: str | None, progress: Progress) -> list[Path]:
        """Copies one model of the user's own, the file to open first, to where llmctl keeps what has no other place.

        ``sha256`` is what the first must have, if that is known. Raises NotFoundError, AccessError, IntegrityError,
        ResourceError.
        """
        name, quant = label.name, label.quant
        stored = bundles.add(self.models, files, name=name, quant=quant, sha256=sha256, progress=progress)
        return [file.path for file in stored]

    def add_address(
        self,
        url: str,
        sha256: str,
        *,
        settings: Settings,
        progress: Progress,
        limit_bytes_per_s: float | None = None,
    ) -> Path:
        """The file at an address, which must have that sha256. Raises what ``add`` raises, and UsageError."""
        from llmctl.store import from_address
        from llmctl.transfer import last_rate

        with last_rate.measured(progress, limit_bytes_per_s) as measured:
            return from_address.fetch(
                self.models, url, sha256, settings=settings, progress=measured, limit_bytes_per_s=limit_bytes_per_s
            )

    def carry(self, files: Sequence[Stored], label: Label, into: Path, progress: Progress) -> Path:
        """Copies one model with its metadata into a folder of its own below ``into``, for ``take`` on another machine.

        Raises IntegrityError, AccessError, ResourceError.
        """
        from llmctl.store import carry as transport

        return transport.carry(self.hub, self.models, files, label, into, progress)

    def take(self, folder: Path, progress: Progress) -> list[Path]:
        """Brings what ``carry`` has put into ``folder`` into the store, checked. Returns the paths, the one to open
        first.

        Raises NotFoundError, IntegrityError, AccessError, ResourceError; nothing that is wrong is kept.
        """
        from llmctl.store import carry as transport

        return transport.take(self.hub, self.models, folder, progress)

    def remove(self, stored: Stored) -> int:
        """Removes one file, with what pointed to it, and returns the bytes that this frees.

        Raises UsageError for what belongs to another tool, ResourceError when it can't be removed or is being written.
        """
        from llmctl.store.upkeep import remove as removal

        if stored.owner.foreign:
            raise UsageError(
                f"{stored.name} belongs to {stored.owner.label}, which llmctl only reads from",
                hint=elsewhere.removal_hint(stored),
            )
        if stored.owner is Owner.HUB_CACHE:
            return removal.remove(self.hub, stored)
        if stored.source.kind is SourceKind.PACKAGE_INDEX:
            return wheels.remove(self.models, stored.path)
        return bundles.remove(self.models, stored.path)

    def verify(self, stored: Stored, sha256: str | None, progress: Progress) -> Verdict:
        """Reads all of a file. ``sha256`` is what it must have if its store doesn't tell. Raises nothing."""
        from llmctl.store.upkeep import verify as verification

        recorded = stored.source.sha256
        expected = (recorded or sha256) if stored.vouched else (sha256 or recorded)
        return verification.verify(stored, expected, progress, vouched=stored.vouched or sha256 is not None)

    def leftovers(self, keep: Collection[tuple[str, str]] = ()) -> list[Leftover]:
        """What can be removed: interrupted downloads, orphaned blobs, superseded files.

        ``keep`` are repositories with commits that count although no branch stands for them. Raises nothing and changes
        nothing.
        """
        from llmctl.store.upkeep import prune

        return prune.leftovers(self.hub, self.models, keep)

    def clear(self, leftover: Leftover) -> int:
        """Removes one of ``leftovers``. Returns the bytes freed. Raises ResourceError, also when it is in use now."""
        from llmctl.store.upkeep import prune

        return prune.clear(leftover)

    def used(self, path: Path) -> None:
        """Notes that a model is being run now. Raises nothing."""
        from llmctl.store import last_used as used

        used.record(path)

    def last_used(self, path: Path) -> float | None:
        """When it was run last, in seconds since the epoch; None if never by llmctl."""
        return self._used.get(str(path.resolve()))

    @cached_property
    def _used(self) -> dict[str, float]:
        from llmctl.store import last_used as used

        return used.read()

    def unfinished(self) -> list[Unfinished]:
        """What broken downloads have left in the hub cache, those of other tools included. Raises nothing."""
        try:
            return list(hub_cache.unfinished(self.hub))
        except OSError:
            return []

    def list(self) -> list[Stored]:
        """Every GGUF file on this machine that a store holds, llmctl's, the hub cache's or another tool's."""
        from_folders = unvouched.recorded(self.models)
        ours = [
            Stored(
                path,
                source.bytes or 0,
                source,
                owner,
                source.repo or "",
                is_projector(path.name),
                vouched=source.sha256 not in from_folders,
            )
            for owner, entries in (
                (Owner.HUB_CACHE, hub_cache.sources(self.hub)),
                (Owner.LLMCTL, wheels.sources(self.models)),
            )
            for path, source in entries
        ]
        return [*ours, *self._others]
