"""One file from an address that the user gives, with the sha256 that it must have."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from llmctl import net
from llmctl.address import without_secrets
from llmctl.errors import AccessError, LlmctlError, NotFoundError, UsageError
from llmctl.files.lock import locked
from llmctl.gguf import file_names
from llmctl.settings import Settings
from llmctl.shell import command
from llmctl.store import bundles, manifest
from llmctl.store.layout import SHA256, parts
from llmctl.store.manifest import Bundle, Member, Origin
from llmctl.transfer.download import RemoteFile, download
from llmctl.transfer.partial_file import noted_bytes
from llmctl.transfer.retry import PermanentError, busy
from llmctl.types.listener import Progress

if TYPE_CHECKING:
    import requests


def check(url: str, sha256: str | None) -> str:
    """The file's name. Raises UsageError for what can't be fetched safely, IntegrityError for a name that is none."""
    net.require_address(url)
    if urlsplit(url).scheme != "https" and not net.is_loopback(url):
        raise UsageError(
            f"{net.host_of(url)}: only https addresses are fetched from",
            hint="fetch it by other means, then: llmctl pull --sha256 HEX ./FILE.gguf",
        )
    if sha256 is None or not SHA256.fullmatch(sha256.lower()):
        raise UsageError(
            "an address needs the sha256 that its file must have, as 64 hexadecimal digits",
            hint=command("llmctl", "pull", "--sha256", "HEX", names=[without_secrets(url)]),
        )
    return parts(unquote(urlsplit(url).path).rsplit("/", 1)[-1], "the file's name")[-1]


def find(models: Path, sha256: str) -> Path | None:
    """The file of that sha256 that llmctl keeps for itself, whatever its name."""
    paths = (stored.path for stored in bundles.sources(models) if stored.source.sha256 == sha256)
    return next(paths, None)


def fetch(
    models: Path,
    url: str,
    sha256: str,
    *,
    settings: Settings,
    progress: Progress,
    limit_bytes_per_s: float | None = None,
) -> Path:
    """Brings the file to where llmctl keeps its own. Returns its path.

    No token is sent. Raises UsageError, OfflineError, NetworkError, AccessError, NotFoundError, IntegrityError,
    ResourceError.
    """
    name, sha256 = check(url, sha256), sha256.lower()
    if (present := find(models, sha256)) is not None:
        return present
    settings.require_network(name)
    folder = bundles.folder(models, sha256)
    target = folder / name
    with locked(bundles.lock(models, sha256), waiting=lambda: progress(noted_bytes(target), None)):
        if (present := find(models, sha256)) is not None:
            return present  # another process was faster
        remote = RemoteFile(name=name, url=url, sha256=sha256, bytes=None)
        refused = partial(_refused, name)
        download(remote, target, refused=refused, progress=progress, limit_bytes_per_s=limit_bytes_per_s)
        member = Member(name, target.stat().st_size, sha256)
        quant = file_names.quant(name) or "unknown"
        bundle = Bundle(target.stem, quant, Origin.ADDRESS, manifest.cleaned(without_secrets(url)), (member,))
        bundles.write_manifest(folder, bundle)
    return target


def _refused(name: str, response: requests.Response) -> LlmctlError:
    host, status = net.host_of(response.url), response.status_code
    doing = f"fetching {name}"
    if later := busy(response, doing):
        return later
    if status in (401, 403):
        return AccessError(
            f"{doing}: {host} gives it only to users who are logged in ({status})",
            hint="fetch it with a browser, then: llmctl pull --sha256 HEX ./FILE.gguf",
        )
    if status in (404, 410):
        return NotFoundError(f"{doing}: {host} has nothing at that address ({status})", hint="check the address")
    return PermanentError(f"{doing}: {host} answers {status}")
