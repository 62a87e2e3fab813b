"""Model files on this machine: what is here, and how the rest gets here.

Hub files live in the hub cache's own layout, which other tools share; what comes from elsewhere lives in llmctl's
data folder, one folder per package.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmctl import paths
from llmctl.errors import LlmctlError, NetworkError, NotFoundError
from llmctl.settings import Settings
from llmctl.store import hub_cache, package_index
from llmctl.store.progress import Progress
from llmctl.types.model import Source, SourceKind

__all__ = ["Progress", "Store", "Stored", "Unfinished"]


@dataclass(frozen=True, slots=True)
class Stored:
    """A GGUF file of the store. ``source`` is what the store itself knows: no sha256 for files out of a wheel."""

    path: Path
    bytes: int
    source: Source


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A download that was broken off. ``name`` is the repository's; ``idle_s`` how long nobody has written to it."""

    path: Path
    name: str
    bytes: int
    idle_s: float


class Store:
    """The folders are looked up once, when the store is made."""

    def __init__(self) -> None:
        self.hub = paths.hub_cache()
        self.models = paths.data_dir() / "models"

    def find(self, source: Source) -> Path | None:
        """The file of ``source`` on this machine, or None. No network and no hashing; sizes are checked if known."""
        try:
            match source.kind:
                case SourceKind.HUB:
                    return hub_cache.find(self.hub, source)
                case SourceKind.PACKAGE_INDEX:
                    return package_index.find(self.models, source)
                case SourceKind.LOCAL:
                    path = Path(source.file)
                    same = path.is_file() and source.bytes in (None, path.stat().st_size)
                    return path if same else None
        except (LlmctlError, OSError, ValueError):
            return None  # a name that can't be a path is nowhere; `add` says so

    def add(self, source: Source, *, settings: Settings, progress: Progress) -> Path:
        """The file of ``source``, fetched and verified if it isn't here. Returns its path.

        Raises NetworkError (OfflineError), AccessError, NotFoundError, IntegrityError, ResourceError and ConfigError;
        after any of them the store holds what it held before, and at most a partial file that the next try goes on
        with.
        """
        if (found := self.find(source)) is not None:
            return found
        match source.kind:
            case SourceKind.HUB:
                from llmctl.store import hub

                return hub.fetch(self.hub, source, settings=settings, progress=progress)
            case SourceKind.PACKAGE_INDEX:
                return package_index.fetch(self.models, source, settings=settings, progress=progress)
            case SourceKind.LOCAL:
                raise NotFoundError(f"{source.file} is not on this machine, or no longer the file that it was")

    def unfinished(self) -> list[Unfinished]:
        """What broken downloads have left in the hub cache, those of other tools included. Raises nothing."""
        try:
            return [Unfinished(*one) for one in hub_cache.unfinished(self.hub)]
        except OSError:
            return []

    def list(self) -> list[Stored]:
        """Every GGUF file in the store, those that other tools put into the hub cache included."""
        found = [*hub_cache.sources(self.hub), *package_index.sources(self.models)]
        return [Stored(path, source.bytes or 0, source) for path, source in found]

    def unreachable(self, settings: Settings) -> NetworkError | None:
        """Why the model hub can't be used now, or None if it answers. Takes 3 s at most. Raises ConfigError."""
        from llmctl.store import hub

        return hub.unreachable(settings)
