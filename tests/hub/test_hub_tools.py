"""The hub's own library and llmctl in one cache: each finds what the other has stored, and cleans up after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmctl.store import Store
from llmctl.store.upkeep import prune
from llmctl.types.model import Source
from tests.fakes.hub import COMMIT, FakeHub

REPO, FILE = "maker/tiny-GGUF", "tiny-Q4_0.gguf"
Add = Callable[..., Path]

pytest.importorskip("huggingface_hub")


def theirs(script: str) -> Any:
    """What a Python with their library prints as JSON: it reads its settings when it is imported."""
    code = f"import json, huggingface_hub as h\nREPO, FILE = {REPO!r}, {FILE!r}\n" + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


SCAN = """
info = h.scan_cache_dir()
repos = {r.repo_id: [f.file_name for v in r.revisions for f in v.files] for r in info.repos}
print(json.dumps([repos, [str(w) for w in info.warnings], info.size_on_disk]))
"""


def fetched(hub: FakeHub) -> int:
    """Requests for files; their library also asks the hub about itself."""
    return sum("/resolve/" in one.path or one.side == "cdn" for one in hub.requests)


def test_they_find_what_we_stored(hub: FakeHub, add: Add, source: Source) -> None:
    path = add(source)
    asked = fetched(hub)
    assert theirs("print(json.dumps(h.hf_hub_download(REPO, FILE, local_files_only=True)))") == str(path)
    assert theirs("print(json.dumps(str(h.try_to_load_from_cache(REPO, FILE))))") == str(path)
    assert theirs(SCAN) == [{REPO: [FILE]}, [], hub.size(REPO, FILE)]
    assert fetched(hub) == asked
    assert theirs("print(json.dumps(h.hf_hub_download(REPO, FILE)))") == str(path)
    assert fetched(hub) == asked + 1  # they ask whether it has changed; the file doesn't come again


def test_we_find_what_they_stored(hub: FakeHub, add: Add, source: Source) -> None:
    path = Path(theirs("print(json.dumps(h.hf_hub_download(REPO, FILE)))"))
    sha256 = hub.sha256(REPO, FILE)
    asked = len(hub.requests)
    assert Store().find(source) == path
    assert add(source) == path
    assert [(one.path, one.source.sha256, one.source.revision) for one in Store().list()] == [(path, sha256, COMMIT)]
    assert len(hub.requests) == asked


SHARED = """
from huggingface_hub.utils._shared_blobs import publish_blob_to_shared_store
from pathlib import Path
path = Path(h.hf_hub_download(REPO, FILE))
blob = path.parent / path.readlink()
root = path.parents[3]
size = blob.stat().st_size
done = publish_blob_to_shared_store(blob_path=str(root / "models--maker--tiny-GGUF" / "blobs" / blob.name),
                                    xet_hash="ab" * 32, cache_dir=str(root), expected_size=size)
print(json.dumps([done, str(path)]))
"""


def test_blobs_that_their_newer_versions_share_between_repositories(hub: FakeHub, add: Add, source: Source) -> None:
    """The bytes then lie under a name that is a hash, and is not the sha256."""
    done, path = theirs(SHARED)
    assert done is True
    sha256 = hub.sha256(REPO, FILE)
    assert add(source) == Path(path)
    (one,) = Store().list()
    assert one.source.sha256 == sha256
    assert Store().verify(one, None, lambda done, total: None).state == "sound"
    assert Store().leftovers() == []
    assert Store().remove(one) == 0  # the shared bytes are theirs to sweep
    assert Store().list() == []
    assert theirs(SCAN)[:2] == [{}, []]


def test_what_we_remove_leaves_a_cache_that_they_read(hub: FakeHub, add: Add, source: Source, home: Path) -> None:
    hub.repos = {REPO: {FILE: hub.repos[REPO][FILE], "README.md": b"# tiny"}}
    theirs("print(json.dumps(h.hf_hub_download(REPO, 'README.md')))")
    add(source)
    (one,) = Store().list()
    assert Store().remove(one) == one.bytes
    assert theirs(SCAN)[:2] == [{REPO: ["README.md"]}, []]
    assert theirs("print(json.dumps(h.try_to_load_from_cache(REPO, FILE)))") is None


def test_what_they_have_left_unfinished_is_told_and_goes(hub: FakeHub, home: Path, model_file: Path) -> None:
    """Their names for the parts of files, of one process each and of older versions."""
    blobs = home / "cache/huggingface/hub/models--maker--tiny-GGUF/blobs"
    blobs.mkdir(parents=True)
    etag = hub.sha256(REPO, FILE)
    begun = model_file.read_bytes()[:5000]
    (blobs / f"{etag}.incomplete").write_bytes(begun)
    (blobs / f"{etag}.1234abcd.incomplete").write_bytes(begun)
    (blobs / f"{'e' * 40}.incomplete").write_bytes(b'{"__metadata__": {}}')  # safetensors: none of our business
    (one,) = Store().leftovers()
    assert (one.kind, one.name, one.bytes) == (prune.LeftoverKind.PARTIAL, REPO, 10_000)
    assert sorted(path.name for path in one.paths) == [f"{etag}.1234abcd.incomplete", f"{etag}.incomplete"]
    Store().clear(one)
    assert [path.name for path in blobs.iterdir()] == [f"{'e' * 40}.incomplete"]


def test_what_they_are_writing_is_let_alone(hub: FakeHub, home: Path, tmp_path: Path) -> None:
    blobs = home / "cache/huggingface/hub/models--maker--tiny-GGUF/blobs"
    blobs.mkdir(parents=True)
    etag = hub.sha256(REPO, FILE)
    (blobs / f"{etag}.1234abcd.incomplete").write_bytes(b"GGUF")
    (blobs / etag).write_bytes(b"GGUF")
    lock = home / f"cache/huggingface/hub/.locks/models--maker--tiny-GGUF/{etag}.lock"
    lock.parent.mkdir(parents=True)
    script = f"""
    from huggingface_hub.utils import WeakFileLock
    with WeakFileLock({str(lock)!r}):
        print("held", flush=True)
        input()
    """
    code = textwrap.dedent(script)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ}
    ) as writer:
        assert writer.stdin and writer.stdout
        assert writer.stdout.readline() == b"held\n"
        assert Store().leftovers() == []
        writer.stdin.close()
        writer.wait(timeout=30)
    assert {one.kind for one in Store().leftovers()} == {prune.LeftoverKind.PARTIAL, prune.LeftoverKind.ORPHAN}
