"""A hub with one model on it, and waits that a test can wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl import settings
from llmctl.settings import Settings
from llmctl.store import Store
from llmctl.transfer import retry
from llmctl.types.model import Source, SourceKind
from llmctl.workspace.fetcher import Fetcher
from tests.fakes.gguf_file import Fill, TensorSpec, write
from tests.fakes.hub import FakeHub

REPO, FILE = "maker/tiny-GGUF", "tiny-Q4_0.gguf"
MODEL_BYTES = 3 << 20


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound GGUF file of some 3 MiB."""
    tensors = [TensorSpec("token_embd.weight", (256, MODEL_BYTES // 1024), "F32")]
    return write(tmp_path_factory.mktemp("model") / FILE, {"general.architecture": "llama"}, tensors, fill=Fill.RANDOM)


@pytest.fixture
def hub(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(retry, "WAITS_S", (0.01,))
    with FakeHub({REPO: {FILE: model_file, "notes.gguf": b"This is text.\n" * 99}}) as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


@pytest.fixture
def source() -> Source:
    return Source(SourceKind.HUB, REPO, FILE)


@pytest.fixture
def add(hub: FakeHub) -> Callable[..., Path]:
    """``Store().add`` with the settings of the environment; ``changed`` are settings to change."""

    def quiet(done_bytes: int, total_bytes: int | None) -> None:
        """Nobody looks."""

    def call(source: Source, progress: Callable[[int, int | None], None] = quiet, **changed: object) -> Path:
        loaded: Settings = replace(settings.load(), **changed)
        return Fetcher(Store(), loaded).add(source, progress)

    return call


@pytest.fixture
def stored(home: Path) -> Callable[[], list[str]]:
    """The files of the store, locks left aside: what a failure must not leave behind. (pip keeps things of its own.)"""
    roots = (home / "cache" / "huggingface", home / "data")

    def names() -> list[str]:
        found = (path for root in roots for path in root.rglob("*"))
        return sorted(str(path.relative_to(home)) for path in found if not path.is_dir() and path.suffix != ".lock")

    return names
