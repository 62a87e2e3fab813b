"""Files from the model hub: their facts, their download, and the hub's refusals as errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from llmctl import net
from llmctl.errors import (
    AccessError,
    IntegrityError,
    LlmctlError,
    NetworkError,
    NotFoundError,
    OfflineError,
)
from llmctl.files.lock import locked
from llmctl.hub.token import Token, advice, token
from llmctl.settings import Settings
from llmctl.store import hub_cache
from llmctl.store.layout import COMMIT, SHA256, Repository
from llmctl.transfer.download import RemoteFile, download
from llmctl.transfer.partial_file import noted_bytes
from llmctl.transfer.retry import PermanentError, RetryBudget, ServerBusyError, busy
from llmctl.types.listener import Progress
from llmctl.types.model import Source

if TYPE_CHECKING:
    import requests

REACH_S = 3.0
UNREACHED_HINT = "check the network and HTTPS_PROXY, or use a mirror: export HF_ENDPOINT=https://…"
LIMITS_HINT = "wait, or set HF_TOKEN: with a token the hub's limits are higher"
LATER_HINT = "run the same command again later, or use a mirror: export HF_ENDPOINT=https://…"
MAX_FILE_BYTES = 1 << 43  # 8 TiB: more is a mistake or an attack

T = TypeVar("T")


class NoRepositoryError(NotFoundError):
    """The hub has no repository of that name."""


class PrivateError(AccessError):
    """The repository can't be seen without a token; the hub answers the same for one that doesn't exist."""


class Facts(Struct, frozen=True):
    """What the hub says of one file: the commit that the revision stands for, and what identifies the bytes."""

    commit: str
    sha256: str
    bytes: int | None


def fetch(
    root: Path, source: Source, *, settings: Settings, progress: Progress, limit_bytes_per_s: float | None = None
) -> Path:
    """Brings ``source`` into the hub cache at ``root``. Returns its path there.

    Raises OfflineError, NetworkError, AccessError, NotFoundError, IntegrityError, ResourceError.
    """
    assert source.repo is not None
    repository = Repository(root, source.repo)
    repository.pointer("0" * 40, source.file)  # names first: nothing is asked for that could not be stored
    repository.ref(source.revision)
    settings.require_network(source.file)
    hub_url = _hub_url(settings)
    own = token(hub_url)
    facts = _facts(hub_url, source, own)
    blob = repository.blob(facts.sha256)

    def waiting() -> None:  # another process transfers this very file: its progress is ours
        progress(noted_bytes(blob), facts.bytes)

    with locked(repository.lock(facts.sha256), waiting=waiting):
        pinned = replace(source, bytes=facts.bytes, sha256=facts.sha256, revision=facts.commit)
        pointer = repository.pointer(facts.commit, source.file)
        if hub_cache.find(root, pinned) != pointer:
            if not (blob.is_file() and facts.bytes in (None, blob.stat().st_size)):
                remote = RemoteFile(
                    name=source.file,
                    url=_address(hub_url, source, facts.commit),
                    sha256=facts.sha256,
                    bytes=facts.bytes,
                    secret=own.headers if own else {},
                )
                download(
                    remote,
                    blob,
                    refused=partial(refused, hub_url, source, own),
                    progress=progress,
                    limit_bytes_per_s=limit_bytes_per_s,
                )
            hub_cache.link(pointer, blob)
        hub_cache.write_ref(repository, source.revision, facts.commit)
    return pointer


def missing_bytes(root: Path, source: Source) -> int:
    """What ``fetch`` will write to the cache at ``root`` for ``source``, as far as its size is known."""
    if source.bytes is None or hub_cache.find(root, source) is not None:
        return 0
    if source.sha256 is None:
        return source.bytes
    blob = Repository(root, source.repo or "").blob(source.sha256)
    return 0 if blob.is_file() else max(0, source.bytes - noted_bytes(blob))


def retried(ask: Callable[[], T]) -> T:
    """Calls ``ask``, which asks the hub, and again while the hub is busy; an unreachable hub is an error at once.

    Raises what ``ask`` raises, NetworkError with what to do about it.
    """
    patience = RetryBudget()
    while True:
        try:
            return ask()
        except ServerBusyError as error:
            error.hint = error.hint or LATER_HINT
            patience.wait(error)
        except NetworkError as error:
            error.hint = error.hint or UNREACHED_HINT
            raise


def unreachable(settings: Settings) -> NetworkError | None:
    """Why the hub can't be used now, or None if it answers. Takes at most REACH_S, name look-up included."""
    if settings.offline:
        return OfflineError("llmctl is set to stay offline", hint="unset LLMCTL_OFFLINE and HF_HUB_OFFLINE")
    hub_url = _hub_url(settings)
    outcome: list[LlmctlError | None] = []

    def ask() -> None:
        try:
            for response in net.hops("HEAD", hub_url, doing="asking the model hub", headers={}, secret={}):
                if response.status_code >= 500:
                    raise NetworkError(
                        f"the model hub {net.host_of(hub_url)} answers {response.status_code}", hint=UNREACHED_HINT
                    )
                if _is_of_a_proxy(response):
                    raise _blocked(hub_url, "asking the model hub")
                break
            outcome.append(None)
        except LlmctlError as error:
            outcome.append(error)

    asking = threading.Thread(target=ask, daemon=True)  # a name look-up knows no time-out of its own
    asking.start()
    asking.join(REACH_S)
    if not outcome:
        return NetworkError(
            f"the model hub {net.host_of(hub_url)} did not answer within {REACH_S:.0f} s", hint=UNREACHED_HINT
        )
    if outcome[0] is not None and not isinstance(outcome[0], NetworkError):
        raise outcome[0]
    return outcome[0]


def address(settings: Settings, source: Source) -> str:
    """Where the hub has the file of ``source``."""
    return _address(_hub_url(settings), source, source.revision)


def _hub_url(settings: Settings) -> str:
    """The hub's address without a slash at its end; ``settings`` has checked that it is one."""
    return settings.hub_url.rstrip("/")


def _address(hub_url: str, source: Source, revision: str) -> str:
    return f"{hub_url}/{quote(source.repo or '')}/resolve/{quote(revision, safe='')}/{quote(source.file)}"


def _page(hub_url: str, source: Source) -> str:
    """Where a person reads about the repository and accepts its licence."""
    return f"{urlsplit(hub_url).scheme}://{net.host_of(hub_url)}{urlsplit(hub_url).path}/{quote(source.repo or '')}"


def _facts(hub_url: str, source: Source, own: Token | None) -> Facts:
    """Asks the hub, not the host it sends files from. Raises what ``fetch`` raises."""
    headers = retried(lambda: _ask(hub_url, source, own))
    host = net.host_of(hub_url)
    commit = headers.get("x-repo-commit", "")
    if not COMMIT.fullmatch(commit):
        raise PermanentError(
            f"{host} answers, but not as a model hub does (no X-Repo-Commit)",
            hint="check LLMCTL_HUB_URL and HF_ENDPOINT; a network's log-in page answers like this, too",
        )
    linked = headers.get("x-linked-etag", "").removeprefix("W/").strip('"').lower()
    theirs = linked if SHA256.fullmatch(linked) else None
    size_bytes = net.whole_number(headers.get("x-linked-size"))
    if source.sha256 is not None and theirs is not None and theirs != source.sha256:
        raise IntegrityError(
            f"{source.file}: {host} has sha256 {theirs[:16]}…, the catalogue says {source.sha256[:16]}…",
            hint="the file was changed after the catalogue was made; choose another model, or mend the entry",
        )
    if source.sha256 is not None and None not in (source.bytes, size_bytes) and source.bytes != size_bytes:
        raise IntegrityError(
            f"{source.file}: {host} has {size_bytes:,} bytes, the catalogue says {source.bytes:,}",
            hint="the file was changed after the catalogue was made; choose another model, or mend the entry",
        )
    if size_bytes is not None and size_bytes > MAX_FILE_BYTES:
        raise IntegrityError(
            f"{source.file}: {host} claims {size_bytes:,} bytes, more than any model has",
            hint=f"choose another file: {_page(hub_url, source)}",
        )
    sha256 = theirs or source.sha256
    if sha256 is None:
        raise IntegrityError(
            f"{source.file}: {host} doesn't state its sha256, so what arrives could not be checked",
            hint="use a hub that does (LLMCTL_HUB_URL), or state the sha256 in a catalogue entry of your own",
        )
    if size_bytes is None and source.sha256 is not None:
        size_bytes = source.bytes
    return Facts(commit, sha256, size_bytes)


def _ask(hub_url: str, source: Source, own: Token | None) -> Mapping[str, str]:
    """The hub's headers, in lower case: those of every answer up to the redirect that leaves the hub.

    A mirror that only redirects to the hub is followed there, without the token.
    """
    headers: dict[str, str] = {}
    url, doing = _address(hub_url, source, source.revision), f"asking for {source.file}"
    answers = net.hops("HEAD", url, doing=doing, headers={}, secret=own.headers if own else {})
    for response in answers:
        if response.status_code >= 400:
            raise refused(hub_url, source, own, response)
        headers |= {name.lower(): value for name, value in response.headers.items()}
        target = net.redirect_target(response, doing)
        leaves = target is not None and not net.same_origin(url, target)
        if "x-repo-commit" in headers and (leaves or "x-linked-etag" in headers):
            break
    return headers


def refused(hub_url: str, source: Source, own: Token | None, response: requests.Response) -> LlmctlError:
    """The error of an answer with a status from 400 on, of the hub or of the host that it sends files from."""
    host, status = net.host_of(response.url), response.status_code
    doing = f"fetching {source.file}"
    if later := busy(response, doing, hint=None if own else LIMITS_HINT):
        return later
    if not net.same_origin(hub_url, response.url):  # an address that expired; the hub makes a new one
        return NetworkError(f"{doing}: {host}, which the hub sends files from, answers {status}")
    if _is_of_a_proxy(response):
        return _blocked(hub_url, doing)
    code = response.headers.get("X-Error-Code", "")
    if status == 403 or code == "GatedRepo":
        also = "" if own else f" and {advice()}"
        return AccessError(
            f"{source.repo}: {host} gives it only to users who have accepted its licence ({status})",
            hint=f"open {_page(hub_url, source)}, accept{also}, then run the same command again",
        )
    if status == 401 and own is not None:
        return AccessError(
            f"{source.repo}: {host} does not accept the token from {own.origin} (401)",
            hint=f"make a new one at {_settings_page(hub_url)} and set HF_TOKEN",
        )
    if status == 401:
        return PrivateError(
            f"{source.repo} is private, or is not on {host}: it can't be fetched without a token (401)",
            hint=f"make one at {_settings_page(hub_url)} and {advice()}",
        )
    if status == 404 and code == "RepoNotFound":
        return NoRepositoryError(f"there is no {source.repo} on {host}", hint=f"see {_page(hub_url, source)}")
    if status == 404:
        missing = f"{source.file} (revision {source.revision})"
        if code == "RevisionNotFound":
            missing = f"revision {source.revision}"
        return NotFoundError(f"{source.repo} on {host} has no {missing}", hint=f"see {_page(hub_url, source)}")
    return PermanentError(f"{doing}: {host} answers {status}")


def _is_of_a_proxy(response: requests.Response) -> bool:
    """Whether a 403 is a proxy's, which keeps the hub away. The hub's own 403 always has a header with the reason."""
    return response.status_code == 403 and not {"X-Error-Code", "X-Error-Message"} & response.headers.keys()


def _blocked(hub_url: str, doing: str) -> NetworkError:
    return PermanentError(
        f"{doing}: {net.host_of(hub_url)} answers 403, but not as a model hub does: a proxy may be keeping it away",
        hint="check HTTPS_PROXY, or use a mirror that is allowed: export HF_ENDPOINT=https://…",
    )


def _settings_page(hub_url: str) -> str:
    return f"{urlsplit(hub_url).scheme}://{net.host_of(hub_url)}/settings/tokens"
