"""What a person means by the name of a model: one of the catalogue, of a hub, an address, or a file.

    qwen3.5-4b[:QUANT]                                    the catalogue
    org/name[@REVISION][:QUANT|:FILE]                     a repository of the hub
    hf.co/…, hf://…, https://huggingface.co/…             the same, as the hub's own pages and tools write it
    https://HOST/FILE                                     an address
    ./FILE, ../FILE, /FILE, ~/FILE, C:\\FILE, FILE.gguf    a file or folder of this machine

Only how a name is written decides, never what lies in the working directory: a file called as a model is called must
not take its place. Such a file is meant by ``./``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from msgspec import Struct

from llmctl import net
from llmctl.address import without_secrets
from llmctl.errors import IntegrityError, UsageError
from llmctl.gguf import file_names
from llmctl.gguf.shards import shard
from llmctl.store.layout import REPO

HUB_HOSTS = ("hf.co", "www.hf.co", "huggingface.co", "www.huggingface.co")
HUB_SCHEMES = ("hf", "huggingface")
HUB_NAME = re.compile(rf"(?P<repo>{REPO.pattern})(?:@(?P<revision>[^:\s]+))?/?(?::(?P<wanted>.*))?", re.DOTALL)
LOCAL = re.compile(r"[.~/\\]|[A-Za-z]:[\\/]|[^:]*\\")
FILE_PAGES = ("resolve", "blob", "raw")
OTHER_KINDS = (
    *("datasets", "spaces", "collections", "docs", "blog", "papers", "learn", "posts", "tasks", "chat"),
    *("organizations", "settings", "join", "login", "new", "pricing", "enterprise", "inference"),
)
OTHER_PAGES = ("tree", "commit", "commits", "discussions", "edit", "blame", "delete", "upload", "settings", "activity")
API = (["models"], ["api", "models"])  # the hub's own words before a repository
REFS = 3  # words of a revision such as refs/pr/1
NEWEST = "latest"  # what other tools call the quantization that is chosen without a word
AROUND = " \t\r\n\"'\u201c\u201d\u2018\u2019`<>"  # what a copied name may have brought with it


class CatalogueName(Struct, frozen=True):
    """``MODEL`` or ``MODEL:QUANT``, also the name of a model that another tool keeps on this machine."""

    name: str


class HubModel(Struct, frozen=True):
    """``wanted`` is a quantization, or a file's path in the repository; None leaves the choice to us."""

    repo: str
    wanted: str | None = None
    revision: str | None = None

    @property
    def name(self) -> str:
        return f"{self.repo}:{self.wanted}" if self.wanted else self.repo


class WebFile(Struct, frozen=True):
    url: str


class LocalFile(Struct, frozen=True):
    """A file or a folder."""

    path: Path


Reference = CatalogueName | HubModel | WebFile | LocalFile


def parse(text: str, hub_url: str) -> Reference:
    """What ``text`` means where ``hub_url`` is the hub, whose pages count as its repositories.

    Raises UsageError for an address that can't be one, and for a page of the hub that is no model's.
    """
    if LOCAL.match(text):
        return LocalFile(Path(os.path.expanduser(text)))  # noqa: PTH111  pathlib raises where there is no home
    copied = text.strip(AROUND)
    scheme, mark, rest = copied.partition("://")
    if mark:
        return _of_address(copied, scheme.lower(), rest, hub_url)
    if copied.partition("/")[0].lower() in HUB_HOSTS and "/" in copied:
        return _of_address(f"https://{copied}", "https", rest, hub_url)
    match = HUB_NAME.fullmatch(copied)
    if match and (match["wanted"] is not None or not file_names.has_ending(copied)):
        return HubModel(match["repo"], _wanted(match["wanted"]), match["revision"])
    return LocalFile(Path(text)) if file_names.has_ending(text) else CatalogueName(copied)


def _of_address(text: str, scheme: str, rest: str, hub_url: str) -> Reference:
    if scheme in HUB_SCHEMES:
        return _of_page(rest, "") or _no_model(text)
    if scheme == "file":
        return LocalFile(Path(unquote(urlsplit(text).path)))
    net.require_address(text)
    where = urlsplit(text)
    prefix = urlsplit(hub_url).path.rstrip("/") + "/"  # a mirror may live in a folder of a server
    if net.same_origin(text, hub_url) and where.path.startswith(prefix):
        page = where.path.removeprefix(prefix)
    elif scheme in ("http", "https") and where.hostname in HUB_HOSTS:
        page = where.path
    else:
        return WebFile(text)
    model = _of_page(page, where.query)
    return model or (WebFile(text) if file_names.has_ending(where.path) else _no_model(text))


def _of_page(path: str, query: str) -> HubModel | None:
    """The repository, and the file or quantization, that a path on the hub leads to; None if it is no model's page."""
    words = [unquote(word) for word in path.split("/") if word]
    words = next((words[len(before) :] for before in API if words[: len(before)] == before), words)
    if len(words) < 2 or words[0] in OTHER_KINDS:
        return None
    match = HUB_NAME.fullmatch("/".join(words[:2]))
    if match is None:
        return None
    wanted, revision, rest = match["wanted"], match["revision"], words[2:]
    if len(rest) > 1 and rest[0] in (*FILE_PAGES, "tree"):
        page, (revision, inside) = rest[0], _revision(rest[1:])
        return HubModel(match["repo"], _in_folder(inside) if page == "tree" else _wanted(inside), revision)
    if not wanted and rest and rest[0] not in (*OTHER_PAGES, *FILE_PAGES):
        inside = "/".join(rest).removeprefix(":")
        wanted = inside if file_names.has_ending(inside) else _in_folder(inside)
    shown = parse_qs(query).get("show_file_info", [""])[0]
    return HubModel(match["repo"], _wanted(wanted or shown), revision)


def _revision(words: list[str]) -> tuple[str, str]:
    """The revision that a page is of, and the path in the repository: ``refs/pr/1`` is one revision."""
    length = REFS if words[0] == "refs" and len(words) >= REFS else 1
    return "/".join(words[:length]), "/".join(words[length:])


def _in_folder(folder: str) -> str | None:
    """The quantization that a folder of a repository is called by, else the folder itself."""
    return file_names.quant(f"{folder}/model") or folder or None


def _wanted(text: str | None) -> str | None:
    """The quantization or file that is asked for by ``text``, None where it leaves the choice to us."""
    stripped = (text or "").strip()
    return None if stripped.lower() in ("", NEWEST) else _first_part(stripped)


def _first_part(file: str) -> str:
    """Of a split model the file that stands for it, whichever of its parts was named."""
    try:
        part = shard(file)
    except IntegrityError:
        return file
    return file if part is None else part.part(1)


def _no_model(text: str) -> Reference:
    raise UsageError(f"{without_secrets(text)} names no model of the hub", hint="llmctl pull ORG/NAME:QUANT")
