"""What ollama, LM Studio and llama.cpp hold: found, used in place, never trusted and never changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl.errors import UsageError
from llmctl.store import Owner, Store, Stored
from llmctl.types.model import Source, SourceKind
from tests.fakes import other_tools
from tests.fakes.gguf_file import TensorSpec, cut, write
from tests.fakes.hub import FakeHub

REPO, FILE = "maker/tiny-GGUF", "tiny-Q4_0.gguf"
Add = Callable[..., Path]


def held(owner: Owner) -> list[Stored]:
    return [one for one in Store().list() if one.owner is owner]


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below ``folder`` with what would tell of a change."""
    found = [(path, path.lstat()) for path in sorted(folder.rglob("*"))]
    return {str(path): (status.st_size, status.st_mtime_ns, status.st_mode) for path, status in found}


@pytest.fixture
def projector(tmp_path: Path) -> Path:
    return write(tmp_path / "clip.gguf", {"general.architecture": "clip"}, [TensorSpec("v.weight", (32,), "F32")])


NAMES = {
    "registry.ollama.ai/library/llama3.2/1b": "llama3.2:1b",
    "registry.ollama.ai/library/mistral/latest": "mistral",
    "registry.ollama.ai/somebody/tuned/q4": "somebody/tuned:q4",
    "hf.co/maker/tiny-GGUF/Q4_0": "hf.co/maker/tiny-GGUF:Q4_0",
}


@pytest.mark.parametrize(("manifest", "name"), NAMES.items())
def test_ollama(manifest: str, name: str, home: Path, model_file: Path, projector: Path) -> None:
    path = other_tools.ollama(home / ".ollama" / "models", model_file, manifest, projector=projector)
    found = held(Owner.OLLAMA)
    assert [(one.name, one.projector) for one in found] == [(name, False), (name, True)]
    sha256 = other_tools.sha256(model_file)
    assert found[0].path == path
    assert found[0].source == Source(SourceKind.LOCAL, None, str(path), model_file.stat().st_size, sha256)


def test_ollama_where_its_variable_says_and_where_the_service_keeps_it(
    home: Path, tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, service = tmp_path / "moved", tmp_path / "service"
    monkeypatch.setenv("OLLAMA_MODELS", str(moved))
    monkeypatch.setattr("llmctl.store.foreign.ollama.SERVICE", service)
    other_tools.ollama(home / ".ollama" / "models", model_file, "registry.ollama.ai/library/default/a")
    other_tools.ollama(moved, model_file, "registry.ollama.ai/library/moved/a")
    other_tools.ollama(service, model_file, "registry.ollama.ai/library/served/a")
    assert {one.name for one in held(Owner.OLLAMA)} == {"moved:a", "served:a"}


DIGEST = "sha256:" + "0" * 64
MANIFESTS = {
    "nothing": b"",
    "no JSON": b"<html>",
    "a list": b"[]",
    "endless nesting": b"[" * 100_000,
    "too large": b'{"layers": []}' + b" " * (2 << 20),
    "layers of the wrong kind": json.dumps({"layers": {"digest": DIGEST}}).encode(),
    "a layer of the wrong kind": json.dumps({"layers": ["model", None, 7]}).encode(),
    "a digest that leads out": b'{"layers": [{"mediaType": "MODEL", "digest": "sha256:../../../../x", "size": 1}]}',
    "a digest that is none": b'{"layers": [{"mediaType": "MODEL", "digest": ["x"], "size": 1}]}',
    "a blob that is not there": b'{"layers": [{"mediaType": "MODEL", "digest": "DIGEST", "size": 1}]}',
    "no size": b'{"layers": [{"mediaType": "MODEL", "digest": "HERE"}]}',
    "another size": b'{"layers": [{"mediaType": "MODEL", "digest": "HERE", "size": 12}]}',
}


@pytest.mark.parametrize("raw", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_manifest_that_makes_no_sense_holds_nothing(raw: bytes, home: Path, model_file: Path) -> None:
    root = home / ".ollama" / "models"
    blob = other_tools.ollama(root, model_file)
    (manifest,) = root.glob("manifests/*/*/*/*")
    raw = raw.replace(b"MODEL", b"application/vnd.ollama.image.model").replace(b"DIGEST", DIGEST.encode())
    manifest.write_bytes(raw.replace(b"HERE", blob.name.replace("-", ":").encode()))
    assert Store().list() == []


def test_symlinks_that_lead_out_are_nothing(home: Path, tmp_path: Path, model_file: Path) -> None:
    """A store must not make llmctl read, and show, what its owner could not."""
    blob = other_tools.ollama(home / ".ollama" / "models", model_file)
    blob.unlink()
    blob.symlink_to(model_file)
    for place in (home / ".lmstudio/models/a/b/x.gguf", home / "cache/llama.cpp/x.gguf"):
        place.parent.mkdir(parents=True)
        place.symlink_to(model_file)
    (home / ".lmstudio/models/a/b/loop.gguf").symlink_to("loop.gguf")
    assert Store().list() == []


def test_symlinks_that_stay_inside_count_once(home: Path, model_file: Path) -> None:
    there = other_tools.lm_studio(home / ".lmstudio/models", model_file, REPO, FILE)
    (there.parent / "same.gguf").symlink_to(FILE)
    assert len(held(Owner.LM_STUDIO)) == 1


def test_lm_studio(home: Path, model_file: Path) -> None:
    path = other_tools.lm_studio(home / ".lmstudio/models", model_file, REPO, FILE)
    other_tools.lm_studio(home / ".lmstudio/models", model_file, REPO, "downloading_other.gguf.part")
    other_tools.lm_studio(home / ".lmstudio/models", model_file, REPO, f"._{FILE}")
    size = model_file.stat().st_size
    known = Stored(path, size, Source(SourceKind.HUB, REPO, FILE, size), Owner.LM_STUDIO, REPO)
    assert Store().list() == [known]


def test_lm_studio_where_it_was_moved_to(home: Path, tmp_path: Path, model_file: Path) -> None:
    (home / ".lmstudio-home-pointer").write_text(f"{tmp_path / 'studio'}\n")
    other_tools.lm_studio_home(tmp_path / "studio", tmp_path / "disk")
    moved = other_tools.lm_studio(tmp_path / "disk", model_file, REPO, FILE)
    former = other_tools.lm_studio(home / ".cache/lm-studio/models", model_file, "maker/older", "older.gguf")
    assert {one.path for one in held(Owner.LM_STUDIO)} == {moved, former}


@pytest.mark.parametrize("pointer", ["", "relative", "/nowhere", "x" * 10_000, "\0"])
def test_a_pointer_to_nowhere(pointer: str, home: Path, model_file: Path) -> None:
    (home / ".lmstudio-home-pointer").write_text(pointer)
    other_tools.lm_studio(home / ".lmstudio/models", model_file, REPO, FILE)
    assert len(held(Owner.LM_STUDIO)) == 1


@pytest.mark.parametrize("downloads", ["", "relative/models", "/nowhere", "\0", 7, None, ["/"]])
def test_settings_that_name_no_folder(downloads: object, home: Path, model_file: Path) -> None:
    other_tools.lm_studio(home / ".lmstudio/models", model_file, REPO, FILE)
    (home / ".lmstudio/settings.json").write_text(json.dumps({"downloadsFolder": downloads}))
    assert len(held(Owner.LM_STUDIO)) == 1


def test_llama_cpp(home: Path, model_file: Path) -> None:
    path = other_tools.llama_cpp(home / "cache/llama.cpp", model_file, REPO, FILE)
    (one,) = held(Owner.LLAMA_CPP)
    size, sha256 = model_file.stat().st_size, other_tools.sha256(model_file)
    assert one == Stored(path, size, Source(SourceKind.HUB, REPO, FILE, size, sha256), Owner.LLAMA_CPP, REPO)


def test_llama_cpp_whose_manifest_is_of_another_revision(home: Path, model_file: Path) -> None:
    """It is written at every start, the file only when somebody fetches it anew."""
    path = other_tools.llama_cpp(home / "cache/llama.cpp", model_file, REPO, FILE)
    cut(path, 100_000)
    (one,) = held(Owner.LLAMA_CPP)
    assert (one.source.sha256, one.source.bytes) == (None, 100_000)


def test_llama_cpp_without_a_manifest(home: Path, model_file: Path) -> None:
    root = home / "cache/llama.cpp"
    path = other_tools.llama_cpp(root, model_file, REPO, FILE, told=False)
    assert [one.name for one in held(Owner.LLAMA_CPP)] == ["maker_tiny-GGUF_tiny-Q4_0"]
    address = f"https://huggingface.co/{REPO}/resolve/main/{FILE}"
    (root / f"{path.name}.json").write_text(json.dumps({"url": address, "etag": '"x"', "lastModified": ""}))
    (one,) = held(Owner.LLAMA_CPP)
    assert (one.name, one.source.repo, one.source.file) == (REPO, REPO, FILE)


def test_llama_cpp_that_uses_the_hubs_layout(
    hub: FakeHub, add: Add, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As newer builds do, in the hub cache itself unless LLAMA_CACHE is set."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "llama"))
    path = add(source)
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "llama"))
    assert [one.owner for one in Store().list()] == [Owner.HUB_CACHE]
    monkeypatch.delenv("HF_HUB_CACHE")
    (one,) = Store().list()
    assert (one.owner, one.path, one.source.sha256) == (Owner.LLAMA_CPP, path, hub.sha256(REPO, FILE))


@pytest.fixture(params=["ollama", "lm_studio", "llama_cpp", "llama_cpp without a manifest"])
def foreign(request: pytest.FixtureRequest, home: Path, model_file: Path) -> Path:
    match request.param:
        case "ollama":
            return other_tools.ollama(home / ".ollama/models", model_file)
        case "lm_studio":
            return other_tools.lm_studio(home / ".lmstudio/models", model_file, "else/where", FILE)
    told = request.param == "llama_cpp"
    return other_tools.llama_cpp(home / "cache/llama.cpp", model_file, REPO, FILE, told=told)


def test_it_is_used_in_place(hub: FakeHub, add: Add, source: Source, foreign: Path, model_file: Path) -> None:
    """By its sha256 where its store tells one, else by name and size."""
    before = tree(foreign.parents[1])
    known = replace(source, bytes=model_file.stat().st_size, sha256=other_tools.sha256(model_file))
    if foreign.name == "maker_tiny-GGUF_tiny-Q4_0.gguf" and not list(foreign.parent.glob("manifest=*")):
        known = replace(known, file=foreign.name)
    assert Store().find(known) == foreign
    assert add(known) == foreign
    assert hub.requests == []
    assert tree(foreign.parents[1]) == before


def test_another_file_of_the_same_name_is_not_it(home: Path, source: Source, foreign: Path) -> None:
    size = foreign.stat().st_size
    told = "ollama" in str(foreign) or bool(list(foreign.parent.glob("manifest=*")))
    other = replace(source, bytes=size, sha256="0" * 64)
    if told:
        assert Store().find(other) is None
    assert Store().find(replace(source, bytes=size + 1, sha256="0" * 64)) is None
    assert Store().find(replace(source, file="tiny-Q5_0.gguf", bytes=size, sha256="0" * 64)) is None


def test_a_size_that_the_catalogue_has_wrong_is_forgiven_where_the_repository_is_known(
    home: Path, source: Source, model_file: Path
) -> None:
    path = other_tools.lm_studio(home / ".lmstudio/models", model_file, REPO, FILE)
    assert Store().find(replace(source, bytes=12345)) == path
    cut(path, 100_000)
    assert Store().find(replace(source, bytes=12345)) is None


def test_nothing_of_it_is_ever_removed(foreign: Path) -> None:
    before = tree(foreign.parents[1])
    (one,) = [one for one in Store().list() if one.path == foreign]
    with pytest.raises(UsageError) as caught:
        Store().remove(one)
    assert one.owner.label in caught.value.message
    assert caught.value.hint
    assert Store().leftovers() == []
    assert tree(foreign.parents[1]) == before


def test_how_its_owner_removes_it(home: Path, model_file: Path) -> None:
    other_tools.ollama(home / ".ollama/models", model_file)
    (one,) = held(Owner.OLLAMA)
    with pytest.raises(UsageError) as caught:
        Store().remove(one)
    assert caught.value.hint == "ollama rm llama3.2:1b"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_nothing(foreign: Path) -> None:
    foreign.chmod(0)
    assert Store().list() == []


def test_a_store_looks_once(home: Path, model_file: Path, source: Source) -> None:
    known = replace(source, bytes=model_file.stat().st_size)
    store = Store()
    assert store.find(known) is None
    path = other_tools.lm_studio(home / ".lmstudio/models", model_file, REPO, FILE)
    assert store.find(known) is None  # looked once
    assert Store().find(known) == path
