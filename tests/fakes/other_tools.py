"""The stores of other tools, laid out as those tools lay them out. Each returns the path of the model's bytes.

The documents hold every field that the real ones hold: ollama's manifest as its registry serves it, LM Studio's
settings and llama.cpp's manifests as those programs write them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from tests.fakes.hub import COMMIT

OLLAMA = "application/vnd.ollama.image"


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def ollama(
    root: Path,
    file: Path,
    name: str = "registry.ollama.ai/library/llama3.2/1b",
    *,
    projector: Path | None = None,
) -> Path:
    """``root`` is the models folder; ``name`` the manifest's path, from the host to the tag."""
    blobs = root / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)

    def layer(kind: str, raw: bytes) -> dict[str, object]:
        digest = hashlib.sha256(raw).hexdigest()
        (blobs / f"sha256-{digest}").write_bytes(raw)
        return {"mediaType": f"{OLLAMA}.{kind}", "digest": f"sha256:{digest}", "size": len(raw)}

    config = layer("config", b'{"model_format":"gguf","model_family":"llama","file_type":"Q8_0"}')
    layers = [
        layer("model", file.read_bytes()),
        *([layer("projector", projector.read_bytes())] if projector else []),
        layer("template", b"{{ .Prompt }}"),
        layer("license", b"LLAMA 3.2 COMMUNITY LICENSE AGREEMENT"),
        layer("params", b'{"stop":["<|eot_id|>"]}'),
    ]
    manifest = root / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(
        json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "config": {**config, "mediaType": "application/vnd.docker.container.image.v1+json"},
                "layers": layers,
            }
        )
    )
    return blobs / f"sha256-{sha256(file)}"


def in_hub_cache(root: Path, repo: str, file: Path, *, name: str | None = None, commit: str = COMMIT) -> Path:
    """``root`` is the hub's cache; what was there by that name is replaced. Returns the name's place in it."""
    folder = root / f"models--{repo.replace('/', '--')}"
    blob = folder / "blobs" / sha256(file)
    pointer = folder / "snapshots" / commit / (name or file.name)
    for place in (blob.parent, pointer.parent, folder / "refs"):
        place.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(file.read_bytes())
    pointer.unlink(missing_ok=True)
    pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    (folder / "refs/main").write_text(commit)
    return pointer


def lm_studio(models: Path, file: Path, repo: str, name: str) -> Path:
    """``models`` is the downloads folder."""
    target = models / repo / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
    return target


def lm_studio_home(home: Path, downloads: Path | str) -> None:
    home.mkdir(parents=True, exist_ok=True)
    settings = {"language": "en", "downloadsFolder": str(downloads), "enableLocalService": False, "developer": {}}
    (home / "settings.json").write_text(json.dumps(settings, indent=2))


def llama_cpp(root: Path, file: Path, repo: str, name: str, *, tag: str = "latest", told: bool = True) -> Path:
    """The flat layout of older builds; ``told``: with the manifest that ``-hf`` leaves."""
    root.mkdir(parents=True, exist_ok=True)
    target = root / f"{repo}_{name}".replace("/", "_")
    shutil.copyfile(file, target)
    (root / f"{target.name}.etag").write_text('"0123456789abcdef"')
    if told:
        lfs = {"sha256": sha256(file), "size": file.stat().st_size, "pointerSize": 134}
        manifest = {"ggufFile": {"rfilename": name, "blobId": "0" * 40, "size": file.stat().st_size, "lfs": lfs}}
        (root / f"manifest={repo.replace('/', '=')}={tag}.json").write_text(json.dumps(manifest))
    return target
