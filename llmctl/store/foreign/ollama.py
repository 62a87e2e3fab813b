"""GGUF files that ollama holds: blobs named by their sha256, behind manifests. Read, never written.

Layout (manifest/paths.go, manifest/manifest.go, types/model/name.go of ollama at fb30760, 2026-08):

    manifests/<host>/<namespace>/<model>/<tag>      JSON: layers, each with mediaType, digest, size
    blobs/sha256-<hex>                              their bytes
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from llmctl.paths import expanded
from llmctl.store.foreign.reading import document, home, inside
from llmctl.store.layout import DIGEST
from llmctl.store.stored import Owner, Stored
from llmctl.types.model import Source, SourceKind

SERVICE = Path("/usr/share/ollama/.ollama/models")  # of the system service on Linux (docs/faq.mdx)
MODEL = "application/vnd.ollama.image.model"
PROJECTOR = "application/vnd.ollama.image.projector"
DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG = "registry.ollama.ai", "library", "latest"
MAX_MANIFESTS = 2000
MAX_LAYERS = 100


def roots() -> list[Path]:
    """OLLAMA_MODELS if set, else the user's own folder; and the system service's."""
    explicit, user = os.environ.get("OLLAMA_MODELS"), home()
    if explicit:
        return [expanded(explicit), SERVICE]
    return [SERVICE] if user is None else [user / ".ollama" / "models", SERVICE]


def files() -> Iterator[Stored]:
    """Every model and projector that is whole by its size and can be read. Raises nothing."""
    for root in roots():
        for manifest in islice(sorted(root.glob("manifests/*/*/*/*")), MAX_MANIFESTS):
            yield from _layers(root, manifest)


def _layers(root: Path, manifest: Path) -> Iterator[Stored]:
    layers = document(manifest, root).get("layers")
    for layer in layers[:MAX_LAYERS] if isinstance(layers, list) else ():
        if not isinstance(layer, dict) or layer.get("mediaType") not in (MODEL, PROJECTOR):
            continue
        blob = _blob(root, layer)
        if blob is not None:
            path, sha256, size_bytes = blob
            source = Source(SourceKind.LOCAL, None, str(path), size_bytes, sha256)
            yield Stored(path, size_bytes, source, Owner.OLLAMA, _name(manifest), layer["mediaType"] == PROJECTOR)


def _blob(root: Path, layer: dict[str, Any]) -> tuple[Path, str, int] | None:
    match = DIGEST.fullmatch(str(layer.get("digest")).lower())
    if match is None:
        return None
    path = root / "blobs" / f"sha256-{match[1]}"
    status = inside(path, root)
    if status is None or status.st_size != layer.get("size"):
        return None
    return path, match[1], status.st_size


def _name(manifest: Path) -> str:
    """As ``ollama list`` shows it: what is the default is left out."""
    host, namespace, model, tag = manifest.parts[-4:]
    name = model if tag == DEFAULT_TAG else f"{model}:{tag}"
    if host == DEFAULT_HOST:
        return name if namespace == DEFAULT_NAMESPACE else f"{namespace}/{name}"
    return f"{host}/{namespace}/{name}"
