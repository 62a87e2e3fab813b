"""From what a person names to files on this machine: catalogue, hub repository, address, file, folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from llmctl import catalogue, net, units
from llmctl.catalogue import claims
from llmctl.errors import IntegrityError, NetworkError, NotFoundError, NothingFitsError, UsageError
from llmctl.gguf.header import read_file
from llmctl.gguf.shards import read_model, shard_names
from llmctl.hub.quantizations import Offer
from llmctl.shell import command
from llmctl.store.carry import Label
from llmctl.store.layout import COMMIT, Repository
from llmctl.types.listener import Listener
from llmctl.types.model import Source, SourceKind
from llmctl.workspace import choose
from llmctl.workspace.fetcher import Fetcher
from llmctl.workspace.reference import HubModel, LocalFile, WebFile
from llmctl.workspace.situation import Shelf, look, want

if TYPE_CHECKING:
    from llmctl.store.manifest import Bundle
    from llmctl.types.model import Candidate
    from llmctl.workspace.inventory import Item


SHOWN = 5  # names in a message


class FetchRequest(Struct, frozen=True):
    """What ``pull`` was given beside the name."""

    listener: Listener
    shelf: Shelf
    revision: str | None = None
    sha256: str | None = None
    limit_bytes_per_s: float | None = None
    to: Path | None = None

    @property
    def fetcher(self) -> Fetcher:
        return Fetcher(self.shelf.store, self.shelf.settings, self.limit_bytes_per_s)


class Obtained(Struct, frozen=True):
    """A model on this machine; the first of ``paths`` is the one to open."""

    model: str
    quant: str
    paths: Sequence[Path]
    fetched: bool
    source: Source
    licence: str | None = None

    @property
    def path(self) -> Path:
        """The file to open."""
        return self.paths[0]


def obtain(request: FetchRequest, name: str) -> Obtained:
    """Whatever ``name`` means, fetched if it isn't here. Raises what the store raises, and UsageError."""
    meant = request.shelf.meant(name)
    if isinstance(meant, HubModel) and request.sha256 is not None and urlsplit(name).scheme in ("http", "https"):
        meant = WebFile(name)  # a file that must have a given sha256, wherever it is
    if request.revision is not None and not isinstance(meant, HubModel):
        given = {WebFile: "an address", LocalFile: "a path"}.get(type(meant), "a name of the catalogue")
        raise UsageError(f"--revision goes with org/name, not with {given}", hint="llmctl pull --help")
    match meant:
        case WebFile(url):
            return _address(request, url)
        case LocalFile(path):
            return _folder(request, path) if os.path.isdir(path) else _file(request, [path], path)  # noqa: PTH112
    if request.sha256 is not None:
        raise UsageError("--sha256 goes with an address or a file; the hub states its own", hint="llmctl pull --help")
    if isinstance(meant, HubModel):
        revision = request.revision or meant.revision
        return _repository(replace(request, revision=revision), meant.repo, meant.wanted)
    return _catalogue(request, name)


def out_of(request: FetchRequest, folder: Path, name: str | None) -> Obtained:
    """A model that ``pull --to`` has put into ``folder``: the one that is named, or the only one."""
    from llmctl.store import manifest

    if request.revision or request.sha256 or request.limit_bytes_per_s:
        raise UsageError(
            "--from takes what the folder holds: --revision, --sha256 and --limit-rate don't go with it",
            hint=command("llmctl", "pull", "--from", folder),
        )
    own = os.path.exists(folder / manifest.MANIFEST)  # noqa: PTH110  pathlib raises for names too long
    bundles = [(folder, manifest.read(folder))] if own else list(manifest.bundles(folder))
    labels = [f"{bundle.name}:{bundle.quant}" for _, bundle in bundles]
    if name is not None:
        wanted = name.lower()
        bundles = [
            (place, bundle)
            for place, bundle in bundles
            if wanted in (bundle.name.lower(), f"{bundle.name}:{bundle.quant}".lower())
        ]
    if len(bundles) != 1:
        if not labels:
            hint = "llmctl pull NAME --to DIR   on the machine that has it"
            raise NotFoundError(f"{folder} holds no model that `llmctl pull --to` has put there", hint=hint)
        hint = command("llmctl", "pull", "--from", folder, names=labels[:1])
        shown = ", ".join(labels[:SHOWN]) + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "")
        raise NotFoundError(f"{folder} holds {shown}: name one of them", hint=hint)
    place, made = bundles[0]
    _hold_against(request.shelf, place, made)
    request.listener.note(f"{made.name} {made.quant}: {units.size(made.bytes)} from {place}")
    with request.listener.progress(made.name, streams=True) as progress:
        paths = request.shelf.store.take(place, progress)
    source = Source(SourceKind.LOCAL, None, str(paths[0]), made.files[0].bytes, made.files[0].sha256)
    if made.origin is manifest.Origin.HUB:
        first = made.files[0]
        source = Source(SourceKind.HUB, made.place, first.file, first.bytes, first.sha256, made.revision or "main")
    return Obtained(made.name, made.quant, paths, True, source, made.licence)


def _hold_against(shelf: Shelf, place: Path, made: Bundle) -> None:
    """Raises IntegrityError where what a folder claims to hold can't be what the catalogue calls so."""
    said = {PurePosixPath(member.file).name: member.sha256 for member in made.files}
    named = f"{made.name}:{made.quant}".lower()
    for model in shelf.catalogue.models:
        for artifact in model.artifacts:
            source = artifact.source
            theirs = said.get(PurePosixPath(source.file).name) if source.repo == made.place else None
            if theirs is None and f"{model.id}:{artifact.quant}".lower() != named:
                continue
            if None not in (theirs, source.sha256) and theirs != source.sha256:
                why = f"it has sha256 {str(theirs)[:16]}…, the catalogue says {str(source.sha256)[:16]}…"
            else:
                header = read_model(place / made.files[0].file)[1]
                why = claims.contradiction(header, model, artifact) or ""
            if why:
                raise IntegrityError(
                    f"{place}: what is called {model.id} {artifact.quant} there is another file: {why}",
                    hint="have it pulled anew on the other machine: llmctl pull NAME --to DIR",
                )


def _catalogue(request: FetchRequest, name: str) -> Obtained:
    listener, shelf = request.listener, request.shelf
    candidate = _chosen(request, name)
    source, path = candidate.artifact.source, candidate.path
    label = f"{candidate.model.name} {candidate.artifact.quant}"
    if path is None and source.kind is SourceKind.PACKAGE_INDEX and request.limit_bytes_per_s is not None:
        raise UsageError(
            f"--limit-rate can't hold for {label}: pip, which fetches it, knows no limit",
            hint=command("llmctl", "pull", names=[name]),
        )
    if path is None:
        if request.to is not None:  # for the store alone, the hub's word on the size is better than the catalogue's
            carried = Label(candidate.model.id, candidate.artifact.quant)
            request.fetcher.require_room([source], label=carried, to=request.to)
        listener.note(
            f"{label}: {choose.cost(candidate.artifact.bytes, request.limit_bytes_per_s)} from {_where(shelf, source)}"
        )
        with listener.progress(label, streams=True) as progress:
            path = request.fetcher.add(source, progress)
    else:
        listener.note(f"{label} is on this machine")
    fetched, model = candidate.path is None, candidate.model
    paths = [path.with_name(name) for name in shard_names(path.name)]
    return Obtained(model.id, candidate.artifact.quant, paths, fetched, source, model.licence)


def _chosen(request: FetchRequest, name: str) -> Candidate:
    """The file that was named, which may be meant for another machine, or the planner's choice among several."""
    from llmctl.types.plan import Plan

    candidates = request.shelf.candidates(name)
    if len(candidates) == 1:
        return candidates[0]
    situation = look(request.listener, before=request.shelf)
    planned = situation.plan(candidates, want(situation.settings, explicit=True))
    if isinstance(planned, Plan):
        return planned.choice.candidate
    smallest = min(candidates, key=lambda candidate: candidate.artifact.bytes)
    raise NothingFitsError(
        planned.reason, hint=f"{command('llmctl', 'pull', names=[choose.name_of(smallest)])}   fetches it all the same"
    )


def _repository(request: FetchRequest, repo: str, quant: str | None) -> Obtained:
    """What is here of a repository counts when its quant was named, or when the hub can't be asked."""
    from llmctl.hub import listing, quantizations

    listener, shelf = request.listener, request.shelf
    held = _held(request, repo, quant)
    moves = request.revision is not None and not COMMIT.fullmatch(request.revision)
    if held is not None and (shelf.settings.offline or (quant is not None and not moves)):
        return _is_here(request, held)
    branch = request.revision or "main"
    try:
        listed = listing.listing(repo, branch, shelf.settings)
    except NetworkError as error:
        if held is None:
            raise
        listener.warn(error.message)
        return _is_here(request, held)
    offers = quantizations.offers(listed.files)
    offer = quantizations.choose(offers, quant, repo)
    label = f"{repo} {offer.quant}"
    if quant is None and len(offers) > 1:
        others = ", ".join(dict.fromkeys(other.quant for other in offers if other is not offer))
        listener.note(f"{offer.quant} of {repo}; there is also {others}")
    alone = len(offer.parts) == 1
    missing = [file for file in offer.files if shelf.store.holding(file, alone=alone) is None]
    if missing:
        request.fetcher.require_room(offer.files, label=Label(repo, offer.quant), to=request.to)
        sizes = [file.bytes for file in missing]
        cost = choose.cost(None if None in sizes else sum(size or 0 for size in sizes), request.limit_bytes_per_s)
        count = f" in {len(missing)} files" if len(missing) > 1 else ""
        licence = f", licence {listed.licence}" if listed.licence else ""
        listener.note(f"{label}: {cost}{count} from {net.host_of(shelf.settings.hub_url)}{licence}")
    else:
        listener.note(f"{label} is on this machine")
    with listener.progress(label, streams=bool(missing)) as progress:
        paths = request.fetcher.add_offer(offer, branch, progress)
    return Obtained(repo, offer.quant, paths, bool(missing), offer.parts[0], listed.licence)


def _held(request: FetchRequest, repo: str, quant: str | None) -> Item | None:
    """What is on this machine of a repository, in this quant or under this file name, and of this revision."""
    from llmctl.hub import quantizations

    commit = None
    if request.revision is not None:
        commit = Repository(request.shelf.store.hub, repo).commit(request.revision)
    items = [
        item
        for item in request.shelf.items()
        if item.files[0].name.lower() == repo.lower()
        and not (item.projector or item.missing or item.older)
        and (request.revision is None or item.files[0].source.revision == commit)
    ]
    made = {Offer(item.quant, tuple(file.source for file in item.files)): item for item in items}
    try:
        return made[quantizations.choose(list(made), quant, repo)]
    except NotFoundError:
        return None


def _is_here(request: FetchRequest, item: Item) -> Obtained:
    whose = f", with {item.owner.label}" if item.owner.foreign else ""
    request.listener.note(f"{item.name} {item.quant} is on this machine{whose}")
    beside = [
        other.path
        for other in request.shelf.items()
        if other.projector and (other.owner, other.files[0].name) == (item.owner, item.files[0].name)
    ]
    paths = [*(file.path for file in item.files), *beside[:1]]
    licence = item.model.licence if item.model else catalogue.licence(read_file(item.path, whole=False))
    return Obtained(item.name, item.quant, paths, False, item.files[0].source, licence)


def _address(request: FetchRequest, url: str) -> Obtained:
    from llmctl.gguf import file_names
    from llmctl.store import from_address

    listener, shelf = request.listener, request.shelf
    name = from_address.check(url, request.sha256)
    sha256 = (request.sha256 or "").lower()
    path = from_address.find(shelf.store.models, sha256)
    fetched = path is None
    if path is None:
        listener.note(f"{name} from {net.host_of(url)}")
        with listener.progress(name, streams=True) as progress:
            path = shelf.store.add_address(
                url,
                sha256,
                settings=shelf.settings,
                progress=progress,
                limit_bytes_per_s=request.limit_bytes_per_s,
            )
    else:
        listener.note(f"{path.name} is on this machine")
    source = Source(SourceKind.LOCAL, None, str(path), path.stat().st_size, sha256)
    return Obtained(path.stem, file_names.quant(path.name) or "unknown", [path], fetched, source)


def _folder(request: FetchRequest, folder: Path) -> Obtained:
    """A folder that ``--to`` has made, or one that holds the files of one model."""
    from llmctl.gguf import file_names
    from llmctl.hub import quantizations
    from llmctl.store import manifest

    if os.path.exists(folder / manifest.MANIFEST):  # noqa: PTH110
        return out_of(request, folder, None)
    files = [
        Source(SourceKind.LOCAL, None, path.name, path.stat().st_size)
        for path in sorted(folder.glob(file_names.ANY_CASE))
    ]
    models = quantizations.offers(files)
    if len(models) != 1:
        held = ", ".join(model.parts[0].file for model in models[:5]) or "no whole GGUF model"
        hint = command("llmctl", "pull", names=[folder / models[0].parts[0].file]) if models else None
        raise NotFoundError(f"{folder} holds {held}; exactly one model was expected", hint=hint)
    paths = [folder / file.file for file in models[0].files]
    return _file(request, paths, folder / models[0].parts[0].file)


def _file(request: FetchRequest, files: Sequence[Path], first: Path) -> Obtained:
    """A copy of the user's own file, and of the parts that belong to it."""
    from llmctl.gguf import file_names
    from llmctl.gguf.quant import quant_label
    from llmctl.store.copy import size_of

    listener = request.listener
    if request.limit_bytes_per_s is not None:
        raise UsageError(
            "--limit-rate is for the network, and a file is copied", hint=command("llmctl", "pull", names=[first])
        )
    parts = [first.with_name(name) for name in shard_names(first.name)]
    every = [*parts, *(file for file in files if file not in parts)]
    size_bytes = sum(size_of(part) for part in every)
    _, header = read_model(first)
    quant = file_names.quant(first.name) or quant_label(header)
    stem = file_names.without_quant(Path(parts[0].name).stem.removesuffix(f"-00001-of-{len(parts):05}"))
    label = Label(stem, quant)
    sources = [Source(SourceKind.LOCAL, None, str(part), size_of(part)) for part in every]
    request.fetcher.require_room(sources, label=label, to=request.to)
    runs = command("llmctl", "run", "-m", _as_path(first))
    listener.note(f"{first.name}: {units.size(size_bytes)} copied; {runs} needs no copy")
    with listener.progress(first.name, streams=True, resumes=False) as progress:
        paths = request.shelf.store.add_files(every, label, sha256=request.sha256, progress=progress)
    source = Source(SourceKind.LOCAL, None, str(paths[0]), paths[0].stat().st_size)
    return Obtained(stem, quant, paths, True, source, catalogue.licence(header))


def _as_path(file: Path) -> str:
    """``file`` as it is told from a model's name."""
    return str(file) if file.is_absolute() else f"./{file}"


def _where(shelf: Shelf, source: Source) -> str:
    if source.kind is SourceKind.PACKAGE_INDEX:
        return f"the Python package index ({source.repo})"
    return f"{source.repo} on {net.host_of(shelf.settings.hub_url)}"
