"""A repository of the model hub: its commit, its licence, its files; and repositories of a similar name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from llmctl import net
from llmctl.errors import AccessError, IntegrityError, LlmctlError, NotFoundError
from llmctl.gguf import file_names
from llmctl.hub import files as hub
from llmctl.hub.quantizations import Offer, choose, offers
from llmctl.hub.token import token
from llmctl.near import near
from llmctl.settings import Settings
from llmctl.shell import command
from llmctl.store.layout import COMMIT, REPO, SHA256, parts
from llmctl.transfer.retry import PermanentError
from llmctl.types.model import Source, SourceKind

MAX_ANSWER_BYTES = 16 << 20  # the largest repositories list some 50,000 files in that


class Listing(Struct, frozen=True):
    """``files`` are the GGUF files alone, pinned to ``commit``."""

    commit: str
    files: tuple[Source, ...]
    licence: str | None


def listing(repo: str, revision: str, settings: Settings) -> Listing:
    """Asks the hub. Raises OfflineError, NetworkError, AccessError, NotFoundError with near names, IntegrityError."""
    source = Source(SourceKind.HUB, repo, "list of files", revision=revision)
    parts(repo, "the repository's name")
    parts(revision, "the revision")
    settings.require_network(repo)
    path = f"/api/models/{quote(repo)}/revision/{quote(revision, safe='')}?blobs=true"
    try:
        repository = _get(path, source, settings)
    except (NotFoundError, AccessError) as error:
        raise with_near_names(error, source, settings) from error
    commit = repository.get("sha")
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise PermanentError(
            f"{net.host_of(settings.hub_url)} answers, but not as a model hub does (no commit of {repo})",
            hint="check LLMCTL_HUB_URL and HF_ENDPOINT; a network's log-in page answers like this, too",
        )
    card = repository.get("cardData")
    licence = card.get("license") if isinstance(card, dict) else None
    return Listing(
        commit=commit,
        files=tuple(_files(repository.get("siblings"), repo, commit)),
        licence=licence if isinstance(licence, str) and licence.isprintable() and len(licence) < 100 else None,
    )


def offer_of(source: Source, settings: Settings) -> Offer:
    """The whole model whose first part is ``source``, by what its repository holds now. Raises what ``listing`` and
    ``quantizations.choose`` raise."""
    repository = listing(source.repo or "", source.revision, settings)
    return choose(offers(repository.files), source.file, source.repo or "")


def with_near_names(error: LlmctlError, source: Source, settings: Settings) -> LlmctlError:
    """``error`` with what may have been meant: repositories of a like name, or what the repository does have.

    Asks the hub; if that fails, ``error`` stays as it is.
    """
    assert source.repo is not None
    names: list[str] = []
    with suppress(LlmctlError):
        if isinstance(error, hub.NoRepositoryError | hub.PrivateError):
            names = _repositories(source.repo, settings)
        elif isinstance(error, NotFoundError) and file_names.has_ending(source.file):
            whole = offers(listing(source.repo, source.revision, settings).files)
            quants = {offer.parts[0].file: offer.quant for offer in whole}
            names = [f"{source.repo}:{quants[file]}" for file in near(source.file, quants, likeness=0.0)]
    if not names:
        return error
    return type(error)(f"{error.message}; there is {', '.join(names)}", hint=command("llmctl", "pull", names=names[:1]))


def _repositories(repo: str, settings: Settings) -> list[str]:
    name = repo.rsplit("/", 1)[-1]
    words = re.split(r"[-_.]", name)
    source = Source(SourceKind.HUB, repo, "repositories of a like name")
    answer = _get(f"/api/models?search={quote(' '.join(words[:2]))}&limit=50", source, settings)
    ids = [entry.get("id") for entry in answer.get("found", ()) if isinstance(entry, dict)]
    repositories = [repo_id for repo_id in ids if isinstance(repo_id, str) and REPO.fullmatch(repo_id)]
    if repo in repositories:  # it is there, and not for everybody
        return []
    return near(repo, repositories, likeness=0.6)


def _get(path: str, source: Source, settings: Settings) -> Mapping[str, Any]:
    """The JSON object that the hub answers with; a list is put under ``found``. The token goes to the hub alone."""
    raw = hub.retried(lambda: _answer(settings.hub_url.rstrip("/"), path, source))
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        answer = None
    return answer if isinstance(answer, dict) else {"found": answer if isinstance(answer, list) else []}


def _answer(hub_url: str, path: str, source: Source) -> bytes:
    own, doing = token(hub_url), f"asking for {source.repo}"
    headers, secret = {"Accept": "application/json"}, own.headers if own else {}
    for response in net.hops("GET", hub_url + path, doing=doing, headers=headers, secret=secret):
        if response.is_redirect:
            continue
        if response.status_code >= 400:
            raise hub.refused(hub_url, source, own, response)
        return net.whole(response, doing, limit_bytes=MAX_ANSWER_BYTES)
    raise AssertionError("hops end with an answer or an error")


def _files(siblings: Any, repo: str, commit: str) -> Iterator[Source]:
    """The GGUF files; a name that can't be a path here is passed over, for it can't be stored either."""
    for entry in siblings if isinstance(siblings, list) else ():
        name = entry.get("rfilename") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not file_names.has_ending(name):
            continue
        try:
            parts(name, "the file's name")
        except IntegrityError:
            continue
        lfs = entry.get("lfs") if isinstance(entry.get("lfs"), dict) else {}
        size_bytes, sha256 = lfs.get("size", entry.get("size")), lfs.get("sha256")
        yield Source(
            SourceKind.HUB,
            repo,
            name,
            size_bytes if isinstance(size_bytes, int) and 0 < size_bytes <= hub.MAX_FILE_BYTES else None,
            sha256 if isinstance(sha256, str) and SHA256.fullmatch(sha256) else None,
            commit,
        )
