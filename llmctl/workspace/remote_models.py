"""The models of a hub repository as candidates, without fetching any of them.

Of a file that is named, the header is read: all its figures are exact. Of a whole repository one header is read for
each model in it, that of the quantization most people take (or one that is here already); the others' weights follow
from their sizes (``gguf.mix``), which ``Weights.exact`` tells. Twenty headers would be a hundred megabytes.

Which files there are is asked anew every time, and remembered for when nobody can be asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from llmctl import catalogue
from llmctl.errors import IntegrityError, NetworkError, NotFoundError, OfflineError, UnsupportedFileError
from llmctl.files import atomic
from llmctl.gguf import file_names
from llmctl.gguf.header import read_file
from llmctl.gguf.mix import weights_by_size
from llmctl.gguf.shards import SHARD, joined
from llmctl.hub import files as hub
from llmctl.hub import header_cache, headers, quantizations
from llmctl.hub import listing as hub_listing
from llmctl.hub.listing import Listing
from llmctl.hub.quantizations import Offer
from llmctl.settings import Settings
from llmctl.shell import command
from llmctl.store import Store
from llmctl.store.layout import COMMIT
from llmctl.types.header import Header
from llmctl.types.model import Artifact, Candidate, Model
from llmctl.workspace import projectors

BRANCH = "main"
MAX_MODELS = 4  # of one repository, each of which costs a header
LISTING_BYTES = 16 << 20


class HubCandidates(Struct, frozen=True):
    """``stale`` is why the hub could not be asked, if what it said earlier had to do; ``refused`` why files beside the
    candidates are none."""

    candidates: tuple[Candidate, ...]
    stale: NetworkError | None = None
    refused: tuple[IntegrityError | UnsupportedFileError, ...] = ()


def candidates(
    store: Store, repo: str, quant: str | None, settings: Settings, *, revision: str = BRANCH
) -> HubCandidates:
    """The model ``quant`` (or the file of that name) of ``repo``; without, all that the repository has.

    Raises OfflineError, NetworkError, AccessError, ResourceError, NotFoundError that names what there is, and
    IntegrityError or UnsupportedFileError where no file is a sound language model.
    """
    listing, stale = _listing(repo, revision, settings)
    every = quantizations.offers(listing.files)
    try:
        chosen = [quantizations.choose(every, quant, repo)] if quant else every
        if not chosen:
            quantizations.choose(every, None, repo)
    except NotFoundError as error:
        error.hint = (error.hint or command("llmctl", "plan", names=[repo])).replace("llmctl pull ", "llmctl plan ")
        raise
    reading = _Reading(store, repo, listing, settings)
    made: list[Candidate] = []
    refused: list[IntegrityError | UnsupportedFileError] = []
    for group in _models(chosen):
        try:
            made += reading.candidates(group)
        except (IntegrityError, UnsupportedFileError) as error:
            refused.append(error)
    if refused and not made:
        raise refused[0]
    return HubCandidates(tuple(_told_apart(made)), stale, tuple(refused))


class _Reading(Struct, frozen=True):
    store: Store
    repo: str
    listing: Listing
    settings: Settings

    def candidates(self, group: Sequence[Offer]) -> list[Candidate]:
        """The quantizations of one model, as far as names tell that it is one.

        What can't be that model by its size gets its own header read.
        """
        usual = quantizations.choose(group, None, self.repo)
        first = min(group, key=lambda offer: (self._is_far(offer), offer is not usual))
        header = self._header(first)
        made = {first: self._exact(first, header)}
        for offer in group:
            if offer is not first and (by_size := self._by_size(offer, header, made[first].model)) is not None:
                made[offer] = by_size
        _not_too_many([offer for offer in group if offer not in made and self._is_far(offer)])
        candidates = [made.get(offer) or self._exact(offer, self._header(offer)) for offer in group]
        return [self._seeing(candidate, offer) for candidate, offer in zip(candidates, group, strict=True)]

    def _seeing(self, candidate: Candidate, offer: Offer) -> Candidate:
        """With what its projector takes, if it has one."""
        if offer.projector is None or (projector := projectors.of_hub(offer.projector, self.settings)) is None:
            return candidate
        return projectors.counted(candidate, projector)

    def _header(self, offer: Offer) -> Header:
        paths = self._paths(offer)
        if paths is None:
            return headers.read(offer.parts, self.settings)
        return joined([read_file(path, whole=False) for path in paths], [str(path) for path in paths])

    def _paths(self, offer: Offer) -> list[Path] | None:
        """The files of an offer, if all of them are on this machine."""
        alone = len(offer.parts) == 1
        paths = [path for part in offer.parts if (path := self.store.holding(part, alone=alone)) is not None]
        return paths if len(paths) == len(offer.parts) else None

    def _is_far(self, offer: Offer) -> bool:
        return self._paths(offer) is None and any(headers.cached(part, self.settings) is None for part in offer.parts)

    def _exact(self, offer: Offer, header: Header) -> Candidate:
        paths, source = self._paths(offer), quantizations.as_one(offer.parts)
        stated_at, path = hub.address(self.settings, source), paths[0] if paths else None
        candidate = catalogue.from_header(header, source, id=self.repo, stated_at=stated_at, path=path)
        artifact = replace(candidate.artifact, quant=offer.quant)
        licence = self.listing.licence or candidate.model.licence
        model = replace(candidate.model, licence=licence, artifacts=(artifact,))
        return replace(candidate, model=model, artifact=artifact)

    def _by_size(self, offer: Offer, header: Header, model: Model) -> Candidate | None:
        """The offer as far as its size tells; None if it must be another model, or is here or known exactly."""
        source = quantizations.as_one(offer.parts)
        if source.bytes is None or not self._is_far(offer):
            return None
        by_size = weights_by_size(header, offer.quant, source.bytes - header.data_offset)
        if by_size is None:
            return None
        artifact = Artifact(offer.quant, source, by_size)
        return Candidate(replace(model, artifacts=(artifact,)), artifact)


def _models(every: Sequence[Offer]) -> list[list[Offer]]:
    """The offers by model: those whose files are called alike but for the quantization."""
    groups: dict[str, list[Offer]] = {}
    for offer in every:
        name = PurePosixPath(offer.parts[0].file).name
        match = SHARD.fullmatch(name)
        stem = match["stem"] if match else file_names.without_ending(name)
        groups.setdefault(file_names.model_name(stem), []).append(offer)
    _not_too_many([group[0] for group in groups.values()])
    return list(groups.values())


def _not_too_many(models: Sequence[Offer]) -> None:
    """Raises NotFoundError if there are more than a header each is to be read for."""
    if len(models) > MAX_MODELS:
        repo, files = models[0].parts[0].repo, [model.parts[0].file for model in models]
        raise NotFoundError(
            f"{repo} holds {len(models)} different models: {', '.join(files[:MAX_MODELS])}, …",
            hint=f"{command('llmctl', 'plan', names=[f'{repo}:{files[0]}'])}   for one of them",
        )


def _told_apart(made: Sequence[Candidate]) -> list[Candidate]:
    """Where two have the same quantization, they go by their files."""
    labels = [candidate.artifact.quant for candidate in made]
    named = []
    for candidate in made:
        if labels.count(candidate.artifact.quant) > 1:
            artifact = replace(candidate.artifact, quant=candidate.artifact.source.file)
            model = replace(candidate.model, artifacts=(artifact,))
            named.append(replace(candidate, model=model, artifact=artifact))
        else:
            named.append(candidate)
    return named


def _listing(repo: str, revision: str, settings: Settings) -> tuple[Listing, NetworkError | None]:
    key = "\0".join((settings.hub_url, repo, revision))
    name = f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    try:
        listing = hub_listing.listing(repo, revision, settings)
    except NetworkError as error:
        cached = _cached(name)
        if cached is None:
            if isinstance(error, OfflineError):
                error.hint = f"{command('llmctl', 'pull', names=[repo])}   when it may use the network"
            raise
        return cached, error
    header_cache.write(name, msgspec.json.encode(listing))
    return listing, None


def _cached(name: str) -> Listing | None:
    file = header_cache.path_of(name)
    listing = atomic.read_json(file, LISTING_BYTES, Listing)
    if listing is None or not COMMIT.fullmatch(listing.commit):
        return None
    header_cache.mark_used(file)
    return listing
