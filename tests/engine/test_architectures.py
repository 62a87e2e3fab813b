"""Which architectures the installed engine can load."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmctl import catalogue, paths
from llmctl.engine import architectures
from llmctl.planner.limits import knows


def test_the_installed_engine_knows_all_of_the_catalogue() -> None:
    known = architectures.known()
    assert known is not None and len(known) > 100
    assert {"llama", "qwen35moe", "gpt-oss", "gemma4"} <= known
    for model in catalogue.load(paths.profiles_dir() / "models").models:
        assert knows(known, model.shape.architecture), model.id
    assert not knows(known, "no-such-architecture")


def test_a_library_without_the_table_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert architectures.named(b"\0llama\0qwen2\0(unknown)\0") is None  # too few to be it
    many = b"".join(b"arch%d\0" % number for number in range(60))
    found = architectures.named(b"clip\0llama\0" + many + b"(unknown)\0")
    assert found is not None and found == {"llama", *(f"arch{number}" for number in range(60))}
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    assert architectures.known() is None
