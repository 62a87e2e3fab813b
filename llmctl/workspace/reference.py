"""What a person means by the name of a model: one of the catalogue, of a hub, an address, or a file.

    qwen3.5-4b[:QUANT]                                    the catalogue
    org/name[:QUANT|:FILE]                                a repository of the hub
    hf.co/…, hf://…, https://huggingface.co/…             the same, as the hub's own pages and tools write it
    https://HOST/FILE                                     an address
    ./FILE, ../FILE, /FILE, ~/FILE, C:\\FILE, FILE.gguf    a file or folder of this machine

Only how a name is written decides, never what lies in the working directory: a file called as a model is called must
not take its place. Such a file is meant by ``./``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from llmctl import net
from llmctl.errors import IntegrityError, UsageError
from llmctl.gguf import file_names
from llmctl.gguf.shards import shard
from llmctl.store.layout import REPO

HUB_HOSTS = ("hf.co", "huggingface.co", "www.huggingface.co")
HUB_SCHEMES = ("hf", "huggingface")
LOCAL = re.compile(r"[.~/\\]|[A-Za-z]:[\\/]|[^:]*\\")
FILE_PAGES = ("resolve", "blob", "raw")
OTHER_KINDS = ("datasets", "spaces")


@dataclass(frozen=True, slots=True)
class CatalogueName:
    """``MODEL`` or ``MODEL:QUANT``, also the name of a model that another tool keeps on this machine."""

    name: str


@dataclass(frozen=True, slots=True)
class HubModel:
    """``wanted`` is a quantization, or a file's path in the repository; None leaves the choice to us."""

    repo: str
    wanted: str | None = None
    revision: str | None = None

    @property
    def name(self) -> str:
        return f"{self.repo}:{self.wanted}" if self.wanted else self.repo


@dataclass(frozen=True, slots=True)
class Address:
    url: str


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file or a folder."""

    path: Path


Reference = CatalogueName | HubModel | Address | LocalFile


def parse(text: str, hub_url: str) -> Reference:
    """What ``text`` means where ``hub_url`` is the hub, whose pages count as its repositories.

    Raises UsageError for an address that can't be one, and for a page of the hub that is no model's.
    """
    scheme, mark, rest = text.partition("://")
    if mark:
        return _of_address(text, scheme.lower(), rest, hub_url)
    host, _, path = text.partition("/")
    if host.lower() in HUB_HOSTS and path:
        return _of_page(path, "") or CatalogueName(text)
    if LOCAL.match(text):
        return LocalFile(Path(os.path.expanduser(text)))  # noqa: PTH111  pathlib raises where there is no home
    repo, colon, wanted = text.partition(":")
    if REPO.fullmatch(repo) and (colon or not file_names.has_ending(text)):
        return HubModel(repo, _first_part(wanted) or None)
    return LocalFile(Path(text)) if file_names.has_ending(text) else CatalogueName(text)


def _of_address(text: str, scheme: str, rest: str, hub_url: str) -> Reference:
    if scheme in HUB_SCHEMES:
        return _of_page(rest, "") or _no_model(rest)
    if scheme == "file":
        return LocalFile(Path(unquote(urlsplit(text).path)))
    net.require_address(text)
    where = urlsplit(text)
    prefix = urlsplit(hub_url).path.rstrip("/") + "/"  # a mirror may live in a folder of a server
    if net.same_origin(text, hub_url) and where.path.startswith(prefix):
        return _of_page(where.path.removeprefix(prefix), where.query) or Address(text)
    if scheme in ("http", "https") and where.hostname in HUB_HOSTS:
        return _of_page(where.path, where.query) or Address(text)
    return Address(text)


def _of_page(path: str, query: str) -> HubModel | None:
    """The repository, and the file or quantization, that a path on the hub leads to; None if it is no model's page."""
    words = [unquote(word) for word in path.split("/") if word]
    if words[:1] == ["models"] and len(words) > 2:
        words = words[1:]
    if len(words) < 2 or words[0] in OTHER_KINDS:
        return None
    name, _, wanted = words[1].partition(":")
    name, _, revision = name.partition("@")
    repo = f"{words[0]}/{name}"
    if not REPO.fullmatch(repo):
        return None
    rest = words[2:]
    if len(rest) > 1 and rest[0] in (*FILE_PAGES, "tree"):
        inside = "/".join(rest[2:])
        return HubModel(repo, _in_folder(inside) if rest[0] == "tree" else _first_part(inside), rest[1])
    if not wanted and rest and file_names.has_ending(rest[-1]):
        wanted = "/".join(rest)
    shown = parse_qs(query).get("show_file_info", [""])[0]
    return HubModel(repo, _first_part(wanted or shown) or None, revision or None)


def _in_folder(folder: str) -> str | None:
    """The quantization that a folder of a repository is called by."""
    return file_names.quant(f"{folder}/model") if folder else None


def _first_part(file: str) -> str:
    """Of a split model the file that stands for it, whichever of its parts was named."""
    try:
        part = shard(file)
    except IntegrityError:
        return file
    return file if part is None else part.part(1)


def _no_model(rest: str) -> Reference:
    raise UsageError(f"hf://{rest.partition('?')[0]} names no model of the hub", hint="llmctl pull hf://ORG/NAME:QUANT")
