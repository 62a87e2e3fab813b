"""What the hub has now of the catalogue's files: sizes, hashes, revisions, and, if wanted, their headers.

One question for each repository; a header costs up to some megabytes more, and is read of one file of a model in each
repository, the smallest: the weights of the others follow from their sizes (``gguf.mix``), as in ``hub_models``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from llmctl import catalogue, paths, settings
from llmctl.catalogue import overlay, refreshed
from llmctl.catalogue.refreshed import Refreshed
from llmctl.errors import AccessError, IntegrityError, NotFoundError, UnsupportedFileError
from llmctl.gguf.mix import weights_by_size
from llmctl.gguf.shape import shape, weights
from llmctl.gguf.shards import shard_names
from llmctl.hub import headers as remote_header
from llmctl.hub import listing
from llmctl.hub.listing import Listing
from llmctl.hub.quantizations import as_one
from llmctl.settings import Settings
from llmctl.types.header import Header
from llmctl.types.listener import Listener
from llmctl.types.model import Artifact, Model, Shape, Source, SourceKind, Weights
from llmctl.workspace import situation

BRANCH = "main"
HEADERLESS_BYTES = 8 << 20  # before the tensors, where nobody stated a size: most of that is the vocabulary
FIGURES = (
    *("architecture", "n_layer", "n_embd", "n_head", "n_ff", "n_vocab", "context_train", "kv_width", "kv_window_width"),
    *("window", "state_bytes", "n_expert", "n_expert_used", "latent"),
)


class Difference(Struct, frozen=True):
    """``field`` of a model, or of its file of that ``quant``; None is not known, or gone."""

    quant: str | None
    field: str
    old: object
    new: object


class HubAnswer(Struct, frozen=True):
    """What the hub said of one model: where it is other than the catalogue's, and why a repository could not be read,
    if so."""

    refreshed: Refreshed
    problem: str | None = None


class Compared(Struct, frozen=True):
    """One model with what differs; ``problem`` as in ``HubAnswer``."""

    model: Model
    differences: list[Difference]
    problem: str | None


class Refresh:
    """Asks the hub for one model after the other, and keeps what is to be noted."""

    def __init__(self, listener: Listener, name: str | None) -> None:
        """For the model ``name``, for all without. Raises NotFoundError and ConfigError."""
        self._listener = listener
        self._settings = settings.load()
        self._current = {model.id: model for model in situation.load_catalogue(listener).models}
        shipped = catalogue.load(paths.profiles_dir() / "models", paths.overlay_dir(), as_refreshed=False)
        self.models = shipped.models if name is None else (catalogue.find(shipped, name),)
        self._listed: dict[str, Listing | str] = {}
        self.changed: list[Refreshed] = []

    @property
    def has_asked(self) -> bool:
        """Whether any model's files are those of a repository."""
        return bool(self._listed)

    def compare(self, *, headers: bool) -> Iterator[Compared]:
        """Model by model. Raises OfflineError and NetworkError, also after some."""
        for model in self.models:
            answer = ask(model, self._settings, headers=headers, listed=self._listed)
            if answer.problem:
                self._listener.warn(f"{model.id}: {answer.problem}")
            newer = refreshed.apply({model.id: model}, [answer.refreshed])[model.id]
            differences = compare(self._current[model.id], newer)
            if len(answer.refreshed.gone) == len(model.artifacts):
                self._listener.warn(
                    f"{model.id}: all its files are gone from the hub; it stays as it is in the catalogue"
                )
            elif differences:
                self.changed.append(answer.refreshed)
            yield Compared(model, differences, answer.problem)

    def write(self) -> Path:
        """Notes what has changed in ``refreshed.toml``, and returns that file. Raises ConfigError."""
        return overlay.write(paths.overlay_dir(), self.changed, datetime.now(UTC).date().isoformat())


def ask(model: Model, settings: Settings, *, headers: bool, listed: dict[str, Listing | str]) -> HubAnswer:
    """Asks the hub for the files of ``model``. ``listed`` keeps what repositories said, for the next model.

    A repository that is gone or closed is a ``problem``. Raises OfflineError and NetworkError.
    """
    changed: list[Artifact] = []
    gone: list[str] = []
    problems: list[str] = []
    new_shape: Shape | None = None
    for repo, ours in _by_repository(model).items():
        answer = _listing(repo, settings, listed)
        if isinstance(answer, str):
            problems.append(answer)
            continue
        files = {source.file: source for source in answer.files}
        now = [(artifact, _now(artifact, files)) for artifact in sorted(ours, key=lambda artifact: artifact.bytes)]
        gone += [artifact.quant for artifact, source in now if source is None]
        present = [(artifact, source) for artifact, source in now if source is not None]
        header = None
        if headers and present:
            try:
                header = remote_header.read([files[name] for name in shard_names(present[0][1].file)], settings)
                new_shape = new_shape or shape(header)
            except (IntegrityError, UnsupportedFileError, NotFoundError, AccessError) as error:
                problems.append(error.message)
        for nth, (artifact, source) in enumerate(present):
            by_size = _by_size(artifact, source, header)
            newer = replace(artifact, source=source, weights=weights(header) if header and nth == 0 else by_size)
            if any(_of_file(artifact, newer)):
                changed.append(newer)
    reshaped = new_shape is not None and any(_of_shape(model.shape, new_shape))
    noted = Refreshed(model.id, tuple(changed), tuple(gone), new_shape if reshaped else None)
    return HubAnswer(noted, "; ".join(problems) or None)


def compare(old: Model, new: Model) -> list[Difference]:
    """What a person should know of before the catalogue has ``new`` in the place of ``old``."""
    differences = list(_of_shape(old.shape, new.shape))
    old_quants, by_quant = {artifact.quant for artifact in old.artifacts}, {each.quant: each for each in new.artifacts}
    for artifact in old.artifacts:
        if artifact.quant in by_quant:
            differences += _of_file(artifact, by_quant[artifact.quant])
        else:
            differences.append(Difference(artifact.quant, "file", artifact.source.file, None))
    differences += [
        Difference(artifact.quant, "file", None, artifact.source.file)
        for artifact in new.artifacts
        if artifact.quant not in old_quants
    ]
    return differences


def _by_repository(model: Model) -> Mapping[str, list[Artifact]]:
    artifacts: dict[str, list[Artifact]] = {}
    for artifact in model.artifacts:
        if artifact.source.kind is SourceKind.HUB and artifact.source.repo is not None:
            artifacts.setdefault(artifact.source.repo, []).append(artifact)
    return artifacts


def _listing(repo: str, settings: Settings, listed: dict[str, Listing | str]) -> Listing | str:
    """What a repository holds, or why that can't be told."""
    if repo not in listed:
        try:
            listed[repo] = listing.listing(repo, BRANCH, settings)
        except (NotFoundError, AccessError) as error:
            listed[repo] = error.message
    return listed[repo]


def _now(artifact: Artifact, files: Mapping[str, Source]) -> Source | None:
    """The artifact's file as the repository has it, all parts together; None if one of them is gone."""
    names = shard_names(artifact.source.file)
    parts = [files[name] for name in names if name in files]
    return as_one(parts) if len(parts) == len(names) else None


def _by_size(artifact: Artifact, source: Source, header: Header | None) -> Weights:
    """Of the file as it is now, as its size tells, with the ``header`` of another quantization or without; as they
    were if nothing tells otherwise."""
    old = artifact.weights
    if source.bytes is None:
        return old
    if header is not None and (new := weights_by_size(header, artifact.quant, source.bytes - header.data_offset)):
        return new
    before = artifact.source.bytes
    if source.bytes == before or (before is None and 0 <= source.bytes - old.total_bytes < 2 * HEADERLESS_BYTES):
        return old
    head_bytes = HEADERLESS_BYTES if before is None else before - old.total_bytes
    return _scaled(old, max(source.bytes - head_bytes, 1) / old.total_bytes)


def _scaled(weights: Weights, ratio: float) -> Weights:
    """The same mix in another size."""
    return Weights(
        total_bytes=int(weights.total_bytes * ratio),
        embedding_bytes=int(weights.embedding_bytes * ratio),
        expert_bytes=sum(int(size * ratio) for size in weights.expert_type_bytes.values()),
        type_bytes={name: int(size * ratio) for name, size in weights.type_bytes.items()},
        exact=False,
        expert_type_bytes={name: int(size * ratio) for name, size in weights.expert_type_bytes.items()},
        tied_bytes=int(weights.tied_bytes * ratio),
    )


def _of_file(old: Artifact, new: Artifact) -> Iterator[Difference]:
    """A revision alone is no difference: a commit that leaves the file alone changes nothing for anybody."""
    if new.source.bytes not in (None, old.source.bytes):
        yield Difference(old.quant, "bytes", old.source.bytes, new.source.bytes)
    if new.source.sha256 not in (None, old.source.sha256):
        yield Difference(old.quant, "sha256", old.source.sha256, new.source.sha256)
    if new.weights.total_bytes != old.weights.total_bytes:
        yield Difference(old.quant, "tensor_bytes", old.weights.total_bytes, new.weights.total_bytes)
    if new.weights.exact != old.weights.exact:
        yield Difference(old.quant, "exact", old.weights.exact, new.weights.exact)


def _of_shape(old: Shape, new: Shape) -> Iterator[Difference]:
    """Figures that a header has otherwise; what it doesn't have is no difference."""
    for name in FIGURES:
        before, now = getattr(old, name), getattr(new, name)
        if now and now != before:
            yield Difference(None, name, before, now)
