"""The models on this machine: files put together, named as the catalogue or their owner names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct
from msgspec.structs import replace

from llmctl.catalogue import Catalogue
from llmctl.errors import IntegrityError, LlmctlError, NotFoundError
from llmctl.gguf import file_names
from llmctl.gguf.header import read_file
from llmctl.gguf.quant import quant_label
from llmctl.gguf.shards import Shard, shard
from llmctl.near import did_you_mean, near
from llmctl.printable import printable
from llmctl.store.foreign import find
from llmctl.store.stored import Owner, Stored
from llmctl.types.model import Artifact, Model, SourceKind


class Item(Struct, frozen=True):
    """One model in one quantization, or one projector.

    ``name`` is the catalogue's id where the catalogue knows the file (``model`` is then its entry, and ``sha256`` what
    it says of the file), else what the owner calls it. ``files`` are in order, the first to open first; ``missing``
    says how many parts of a split model aren't here; ``older`` that a later revision of the same file is here, too.
    """

    name: str
    quant: str
    owner: Owner
    files: tuple[Stored, ...]
    model: Model | None = None
    sha256: str | None = None
    missing: int = 0
    older: bool = False

    @property
    def path(self) -> Path:
        return self.files[0].path

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def projector(self) -> bool:
        return self.files[0].projector

    @property
    def label(self) -> str:
        """What a person types to mean this one."""
        return f"{self.name}:{self.quant}"

    def answers_to(self, name: str) -> bool:
        """Whether a person who types ``name`` may mean this one: any of its names, alone, with its quant or file."""
        stem, repo = file_names.without_ending(self.path.name), self.files[0].name
        names = {self.name, repo, stem, *((self.model.name,) if self.model else ())}
        return name.strip().lower() in {called.lower() for own in names for called in self._called(own)}

    def _called(self, name: str) -> tuple[str, ...]:
        return name, f"{name}:{self.quant}", f"{name}:{self.files[0].source.file}"


def inventory(stored: Iterable[Stored], catalogue: Catalogue) -> list[Item]:
    """Every model among ``stored``, by name. Headers are read where a file's name doesn't tell its quantization."""
    groups: dict[tuple[Owner, Path], list[Stored]] = {}
    for file in stored:
        groups.setdefault((file.owner, file.path.with_name(_first(file.path.name))), []).append(file)
    artifacts = _artifacts(catalogue)
    items, seen = [], set()
    for files in groups.values():
        item = _item(sorted(files, key=lambda file: file.path.name), artifacts)
        place = (item.owner, item.files[0].source.repo, item.files[0].source.file)  # the latest snapshot comes first
        items.append(replace(item, older=True) if place in seen else item)
        seen.add(place)
    return sorted(items, key=lambda item: (item.name.lower(), item.projector, item.bytes, item.owner))


def named(items: Sequence[Item], name: str) -> list[Item]:
    """Those that ``name`` may mean. Raises NotFoundError that tells what is near."""
    answering = [item for item in items if item.answers_to(name)]
    if answering:
        return answering
    labels = (label for item in items for label in (item.name, item.label))
    also = did_you_mean(near(name.strip(), labels, inside=True))
    raise NotFoundError(f"no model named {name!r} is on this machine{also}", hint="llmctl models list")


def _artifacts(catalogue: Catalogue) -> Mapping[str, list[tuple[Model, Artifact]]]:
    """The catalogue's files by what any store would tell of them: the file's name, or the sha256."""
    artifacts: dict[str, list[tuple[Model, Artifact]]] = {}
    for model in catalogue.models:
        for artifact in model.artifacts:
            for key in (PurePosixPath(artifact.source.file).name, artifact.source.sha256):
                artifacts.setdefault(key or "", []).append((model, artifact))
    return artifacts


def _item(files: list[Stored], artifacts: Mapping[str, list[tuple[Model, Artifact]]]) -> Item:
    first = files[0]
    part = _shard(first.path.name)
    missing = 0 if part is None else part.total - len(files)
    for key in (first.source.sha256, PurePosixPath(first.source.file).name):
        for model, artifact in artifacts.get(key or "", ()) if key else ():
            if _is(first, artifact):
                return Item(model.id, artifact.quant, first.owner, tuple(files), model, artifact.source.sha256, missing)
    quant = file_names.quant(first.source.file) or _quant_by_header(first.path)
    quant = f"mmproj-{quant}" if first.projector else quant
    return Item(printable(first.name or first.path.stem), quant, first.owner, tuple(files), missing=missing)


def _is(stored: Stored, artifact: Artifact) -> bool:
    wanted, source = artifact.source, stored.source
    if stored.owner in (Owner.HUB_CACHE, Owner.LLMCTL) and source.kind is not SourceKind.LOCAL:
        file = PurePosixPath(wanted.file).name if source.kind is SourceKind.PACKAGE_INDEX else wanted.file
        return (source.kind, source.repo, source.file) == (wanted.kind, wanted.repo, file)
    return find.same(stored, wanted)


def _first(name: str) -> str:
    part = _shard(name)
    return name if part is None else part.part(1)


def _shard(name: str) -> Shard | None:
    try:
        return shard(name)
    except IntegrityError:  # numbers that make no sense: a file by itself
        return None


def _quant_by_header(path: Path) -> str:
    try:
        return quant_label(read_file(path, whole=False))
    except LlmctlError:
        return "unknown"
