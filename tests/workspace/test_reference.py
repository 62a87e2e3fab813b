"""What a person means by the name of a model: decided by how it is written, never by what lies around."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmctl.errors import UsageError
from llmctl.workspace.reference import CatalogueName, HubModel, LocalFile, Reference, WebFile, parse

HUB = "https://huggingface.co"
MIRROR = "https://mirror.example/artifactory/hub"

MEANINGS: dict[str, Reference] = {
    "qwen3.5-4b": CatalogueName("qwen3.5-4b"),
    "qwen3.5-4b:Q4_K_M": CatalogueName("qwen3.5-4b:Q4_K_M"),
    "model.bin": CatalogueName("model.bin"),
    "org/name": HubModel("org/name"),
    "org/name:Q8_0": HubModel("org/name", "Q8_0"),
    "_org/name": HubModel("_org/name"),
    "org/name:sub/x-Q4_0.GGUF": HubModel("org/name", "sub/x-Q4_0.GGUF"),
    "org/name:x-00002-of-00003.gguf": HubModel("org/name", "x-00001-of-00003.gguf"),
    "hf.co/org/name": HubModel("org/name"),
    "hf.co/org/name:Q4_K_M": HubModel("org/name", "Q4_K_M"),
    "HF.co/org/name:q4_k_m": HubModel("org/name", "q4_k_m"),
    "huggingface.co/org/name:Q4_K_M": HubModel("org/name", "Q4_K_M"),
    "huggingface.co/org/name/blob/main/x.gguf": HubModel("org/name", "x.gguf", "main"),
    "hf://org/name": HubModel("org/name"),
    "hf://org/name:Q4_K_M": HubModel("org/name", "Q4_K_M"),
    "hf://org/name/sub/x.gguf": HubModel("org/name", "sub/x.gguf"),
    "hf://org/name@v1/x.gguf": HubModel("org/name", "x.gguf", "v1"),
    "https://hf.co/org/name": HubModel("org/name"),
    "https://hf.co/org/name:Q4_K_M": HubModel("org/name", "Q4_K_M"),
    "https://huggingface.co/org/name/": HubModel("org/name"),
    "http://www.huggingface.co/org/name": HubModel("org/name"),
    "https://huggingface.co/org/name/tree/main": HubModel("org/name", None, "main"),
    "https://huggingface.co/org/name/tree/main/UD-Q4_K_XL": HubModel("org/name", "UD-Q4_K_XL", "main"),
    "https://huggingface.co/org/name/blob/main/x.gguf": HubModel("org/name", "x.gguf", "main"),
    "https://huggingface.co/org/name/resolve/v2/a%20b.gguf?download=true": HubModel("org/name", "a b.gguf", "v2"),
    "https://huggingface.co/org/name/blob/refs%2Fpr%2F1/x.gguf": HubModel("org/name", "x.gguf", "refs/pr/1"),
    "https://huggingface.co/org/name?show_file_info=x-Q4_0.gguf": HubModel("org/name", "x-Q4_0.gguf"),
    "https://huggingface.co/org/name/discussions/3": HubModel("org/name"),
    "https://huggingface.co/models/org/name": HubModel("org/name"),
    "https://huggingface.co/api/models/org/name": HubModel("org/name"),
    "https://huggingface.co/org/name/resolve/main/": HubModel("org/name", None, "main"),
    "https://huggingface.co/org/name/resolve/refs/pr/1/x.gguf": HubModel("org/name", "x.gguf", "refs/pr/1"),
    "https://huggingface.co/org/name/tree/refs/pr/1": HubModel("org/name", None, "refs/pr/1"),
    "https://huggingface.co/org/name/tree/main/original": HubModel("org/name", "original", "main"),
    "https://huggingface.co/org/name#usage": HubModel("org/name"),
    "https://www.hf.co/org/name": HubModel("org/name"),
    "hf.co/org/name/resolve/main/x.gguf?download=true#top": HubModel("org/name", "x.gguf", "main"),
    "hf.co/org/name?show_file_info=x-Q4_0.gguf": HubModel("org/name", "x-Q4_0.gguf"),
    "hf.co/org/name#usage": HubModel("org/name"),
    "hf.co/org/name/:Q4_K_M": HubModel("org/name", "Q4_K_M"),
    "hf.co/org/name:Q4_K_M/": HubModel("org/name", "Q4_K_M"),
    "hf.co/org/name:latest": HubModel("org/name"),
    "hf.co/org/name/Q4_K_M": HubModel("org/name", "Q4_K_M"),
    "hf://org/name/original": HubModel("org/name", "original"),
    "org/name/": HubModel("org/name"),
    "org/name: Q4_K_M": HubModel("org/name", "Q4_K_M"),
    "org/name:": HubModel("org/name"),
    "org/name@v1": HubModel("org/name", None, "v1"),
    "org/name@v1:Q4_K_M": HubModel("org/name", "Q4_K_M", "v1"),
    " org/name\n": HubModel("org/name"),
    '"hf.co/org/name:Q4_K_M"': HubModel("org/name", "Q4_K_M"),
    "\u201chttps://hf.co/org/name\u201d": HubModel("org/name"),
    "https://huggingface.co/x.gguf": WebFile("https://huggingface.co/x.gguf"),
    "https://example.org/org/name": WebFile("https://example.org/org/name"),
    "https://huggingface.co.example.org/org/name": WebFile("https://huggingface.co.example.org/org/name"),
    "./qwen3.5-4b": LocalFile(Path("qwen3.5-4b")),
    "../m": LocalFile(Path("../m")),
    "/srv/m.bin": LocalFile(Path("/srv/m.bin")),
    "m.gguf": LocalFile(Path("m.gguf")),
    "M.GGUF": LocalFile(Path("M.GGUF")),
    "org/name/m.gguf": LocalFile(Path("org/name/m.gguf")),
    "C:\\models\\m.bin": LocalFile(Path("C:\\models\\m.bin")),
    "models\\m": LocalFile(Path("models\\m")),
    "file:///srv/a%20b.gguf": LocalFile(Path("/srv/a b.gguf")),
}


@pytest.mark.parametrize("around", [False, True], ids=["an empty folder", "a file of that name is there"])
@pytest.mark.parametrize(("text", "meaning"), MEANINGS.items())
def test_what_is_meant(text: str, meaning: Reference, around: bool, home: Path) -> None:
    if around and not Path(text).is_absolute() and ".." not in text:
        (home / text).parent.mkdir(parents=True, exist_ok=True)
        (home / text).write_bytes(b"GGUF")
    assert parse(text, HUB) == meaning


def test_the_home_folder(home: Path) -> None:
    assert parse("~/m.bin", HUB) == LocalFile(home / "m.bin")


PAGES_AND_MIRRORS = {
    "https://mirror.example/artifactory/hub/org/name/tree/main": HubModel("org/name", None, "main"),
    "https://mirror.example/artifactory/other/org/name": WebFile("https://mirror.example/artifactory/other/org/name"),
    "https://huggingface.co/org/name": HubModel("org/name"),
    "hf.co/org/name:Q8_0": HubModel("org/name", "Q8_0"),
}


@pytest.mark.parametrize(("text", "meaning"), PAGES_AND_MIRRORS.items())
def test_pages_while_a_mirror_is_set(text: str, meaning: Reference) -> None:
    assert parse(text, MIRROR) == meaning


NOTHING = [
    *("hf://", "hf://name", "hf://datasets/org/name", "https://", "https://[", "://x"),
    *("https://huggingface.co/datasets/org/name", "https://huggingface.co/spaces/org/name", "hf.co/datasets/org/name"),
    *("https://huggingface.co/collections/org/name", "https://huggingface.co/docs/hub/gguf", "hf.co/org", "hf.co/"),
    "https://huggingface.co/models?search=a-secret",
]


@pytest.mark.parametrize("text", NOTHING)
def test_what_names_nothing(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, HUB)
    assert "secret" not in caught.value.message
