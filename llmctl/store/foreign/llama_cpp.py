"""GGUF files that llama.cpp's own download has left in its cache. Read, never written.

Older builds keep ``<org>_<name>_<file>`` flat in the cache folder, beside ``manifest=<org>=<name>=<tag>.json`` with
the names and sha256 as the hub told them, and still older ones ``<file>.json`` with the address that it came from
(common/common.cpp, common/arg.cpp, common/hf-cache.cpp of llama.cpp, 2024 to 2025). Newer ones use the hub cache's
layout, in the hub cache itself or in LLAMA_CACHE (common/hf-cache.cpp at 03eb25f, 2026).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from llmctl.gguf.file_names import ANY_CASE, is_hidden, is_projector
from llmctl.paths import expanded
from llmctl.store import hub_cache
from llmctl.store.foreign.reading import document, home, inside
from llmctl.store.layout import SHA256
from llmctl.store.stored import Owner, Stored
from llmctl.types.model import Source, SourceKind

MANIFEST = re.compile(r"manifest=([^=]+)=([^=]+)=.*\.json")
ADDRESS = re.compile(r"https?://[^/]+/([^/]+/[^/]+)/resolve/[^/]+/(.+\.gguf)", re.IGNORECASE)
MAX_FILES = 2000


def root() -> Path | None:
    """LLAMA_CACHE, or ``llama.cpp`` in the system's cache folder; None where there is none."""
    if explicit := os.environ.get("LLAMA_CACHE"):
        return expanded(explicit)
    variable, below = {"darwin": ("", "Library/Caches"), "win32": ("LOCALAPPDATA", "AppData/Local")}.get(
        sys.platform, ("XDG_CACHE_HOME", ".cache")
    )
    if caches := os.environ.get(variable):
        return Path(caches) / "llama.cpp"
    user = home()
    return None if user is None else user / below / "llama.cpp"


def files(hub_root: Path) -> Iterator[Stored]:
    """Every GGUF file that can be read, without those of the hub cache at ``hub_root``. Raises nothing."""
    place = root()
    if place is None:
        return
    named = _by_manifest(place)
    for path in islice(sorted(place.glob(ANY_CASE)), MAX_FILES):
        status = None if is_hidden(path.name) else inside(path, place)
        if status is not None:
            source = named.get(path.name) or _addressed(path, place) or Source(SourceKind.LOCAL, None, str(path))
            if source.bytes != status.st_size:  # the manifest is of another revision than the file
                source = replace(source, bytes=status.st_size, sha256=None)
            name = source.repo or path.stem
            yield Stored(path, status.st_size, source, Owner.LLAMA_CPP, name, is_projector(path.name))
    if place.absolute() != hub_root.absolute():
        for path, source in hub_cache.sources(place):
            name = source.repo or path.stem
            yield Stored(path, source.bytes or 0, source, Owner.LLAMA_CPP, name, is_projector(path.name))


def _by_manifest(place: Path) -> dict[str, Source]:
    """What the manifests say, by the name of the file in the cache."""
    by_file: dict[str, Source] = {}
    for manifest in islice(sorted(place.glob("manifest=*.json")), MAX_FILES):
        match = MANIFEST.fullmatch(manifest.name)
        if match is None:
            continue
        manifest_fields = document(manifest, place)
        for key in ("ggufFile", "mmprojFile"):
            if (source := _source(f"{match[1]}/{match[2]}", manifest_fields.get(key))) is not None:
                by_file[f"{source.repo}/{source.file}".replace("/", "_")] = source
    return by_file


def _source(repo: str, file: Any) -> Source | None:
    name = file.get("rfilename") if isinstance(file, dict) else None
    if not isinstance(name, str):
        return None
    lfs = file.get("lfs")
    sha256, size_bytes = (lfs.get("sha256"), lfs.get("size")) if isinstance(lfs, dict) else (None, None)
    if not (isinstance(sha256, str) and SHA256.fullmatch(sha256) and isinstance(size_bytes, int)):
        return Source(SourceKind.HUB, repo, name)
    return Source(SourceKind.HUB, repo, name, size_bytes, sha256)


def _addressed(path: Path, place: Path) -> Source | None:
    address = document(path.with_name(path.name + ".json"), place).get("url")
    match = ADDRESS.fullmatch(address) if isinstance(address, str) else None
    return None if match is None else Source(SourceKind.HUB, match[1], match[2])
